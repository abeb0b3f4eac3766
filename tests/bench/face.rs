//! How long the agent takes to say how things stand: to a shell, to Prometheus
//! and to a browser.

use std::net::SocketAddr;
use std::time::Instant;

use crate::clone::milliseconds;
use crate::support::pages::get;
use crate::support::rig::Rig;
use crate::support::sshd::free_port;
use crate::support::system::Host;
use crate::table::Row;

const RUNS: usize = 51;
const DEPLOYMENTS: u32 = 10;

pub(crate) fn rows() -> Vec<Row> {
    let pages = free_port();
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
        rig.settings.poll = "interval = \"1s\"\njitter = \"0s\"\n".into();
    });
    for n in 0..DEPLOYMENTS {
        let commit = rig.push("release", &Host::new(&n.to_string()));
        rig.wait_in_sync(commit);
    }
    let status = timed(|| assert_eq!(rig.tell(&["status"]).0, 0));
    let size = |path| u32::try_from(get(pages, path).unwrap().1.len()).map(f64::from).unwrap();
    vec![
        Row::new("fort-agent status, the whole process", "ms", status).target(20.0),
        Row::new("GET /metrics", "ms", asked(pages, "/metrics")).target(5.0),
        Row::new("GET /, the page", "ms", asked(pages, "/")),
        Row::new("  its size after 11 deployments", "kB", vec![size("/") / 1e3]).target(50.0),
    ]
}

fn asked(pages: SocketAddr, path: &str) -> Vec<f64> {
    timed(|| assert_eq!(get(pages, path).unwrap().0, 200))
}

fn timed(act: impl Fn()) -> Vec<f64> {
    let run = |_| {
        let began = Instant::now();
        act();
        milliseconds(began.elapsed())
    };
    (0..RUNS).map(run).collect()
}
