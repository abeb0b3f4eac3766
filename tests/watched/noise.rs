//! Nonsense that strangers send to an agent's port, in quantity.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::chance::Chance;
use crate::support::measure::footprint;
use crate::support::pages::get;
use crate::support::rig::Rig;
use crate::support::sshd::free_port;

const REQUESTS: u64 = 3_000;
/// Longest time that any request takes: heads end after two seconds.
const SLOWEST: Duration = Duration::from_secs(30);

const SEEDS: [&str; 10] = [
    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n",
    "HEAD /status HTTP/1.0\r\n\r\n",
    "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "GET /../../etc/passwd?%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
    "GET http://other/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nRange: bytes=-1\r\nContent-Length: -1\r\n\r\n",
];

/// One of the seeds, changed; or nothing like it.
fn request(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = SEEDS[chance.below(SEEDS.len())].as_bytes().to_vec();
    match chance.below(8) {
        0 => return chance.bytes(2_000),
        1 => bytes.truncate(chance.below(bytes.len())),
        2 => {
            for _ in 0..=chance.below(8) {
                let at = chance.below(bytes.len());
                bytes[at] = chance.next().to_le_bytes()[0];
            }
        }
        3 => {
            let (at, more) = (chance.below(bytes.len()), chance.bytes(300));
            bytes.splice(at..at, more);
        }
        4 => {
            let header = format!("X-{}: {}\r\n", chance.next(), "y".repeat(chance.below(400)));
            let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.splice(line..line, header.repeat(chance.below(60)).into_bytes());
        }
        5 => bytes = bytes.repeat(1 + chance.below(20)),
        6 => {
            let at = chance.below(bytes.len());
            bytes.drain(at..(at + 1 + chance.below(9)).min(bytes.len()));
        }
        _ => {}
    }
    bytes
}

/// Sends it; what came back, if anything.
fn send(address: SocketAddr, bytes: &[u8], patient: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SLOWEST)).unwrap();
    stream.set_write_timeout(Some(SLOWEST)).unwrap();
    // It may be cut off before it has said all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if patient {
        // Nothing more is coming: half a head need not be waited for.
        let _ = stream.shutdown(Shutdown::Write);
        let began = Instant::now();
        let _ = stream.read_to_end(&mut answer);
        assert!(began.elapsed() < SLOWEST, "{}", bytes.escape_ascii());
    }
    answer
}

/// Ends the watcher, however this ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nonsense_over_http_neither_ends_nor_slows_the_agent() {
    let pages = free_port();
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
    });
    let before = footprint(rig.pid());
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let slowest = std::thread::scope(|scope| {
        // Somebody who watches it meanwhile.
        let watcher = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(get(pages, "/healthz").unwrap().0, 200);
                slowest = slowest.max(began.elapsed());
                asked.fetch_add(1, Ordering::Relaxed);
            }
            slowest
        });
        let _over = Over(&over);
        let mut chance = Chance(0x5eed);
        for n in 0..REQUESTS {
            let bytes = request(&mut chance);
            let answer = send(pages, &bytes, chance.below(10) > 0);
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{n}: {answer:?}");
            let status = answer.get(9..12).unwrap_or_default();
            let told = [&b""[..], b"200", b"400", b"404", b"405", b"414", b"421", b"431", b"503"];
            assert!(told.contains(&status), "{n}: {}", answer.escape_ascii());
        }
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    let asked = asked.into_inner();
    assert!(asked > 100, "{asked}");
    // Loose, for a busy machine.
    assert!(slowest < Duration::from_secs(4), "{slowest:?} for /healthz");
    // The loop goes on.
    rig.wait_polls();
    rig.wait_in_sync(one);
    let after = footprint(rig.pid());
    assert!(after.files <= before.files + 4, "{before:?} {after:?}");
    assert!(after.anon < before.anon + 8 * 1024, "{before:?} {after:?}");
    assert!(!rig.log().contains("panicked"), "{}", rig.log());
}

#[test]
fn a_busy_port_is_said_and_holds_up_nothing() {
    let pages = free_port();
    let busy = TcpListener::bind(pages).unwrap();
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
    });
    let said = format!("{pages} cannot be listened on, tried again");
    assert_eq!(rig.log().matches(&said).count(), 1, "{}", rig.log());
    drop(busy);
    rig.wait_for("the pages", || get(pages, "/healthz").is_ok_and(|(code, _)| code == 200));
    rig.wait_in_sync(one);
}
