//! Messages that anybody can send over the bus: with a socket whose closing takes an
//! hour, and with as many bytes as the bus lets through.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fort_agent::bus::{NAME, PATH};
use futures_util::future::join_all;
use rustix::net::sockopt::set_socket_linger;
use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::message::Message;
use zbus::names::BusName;
use zbus::{Connection, Fd};

use super::on;
use crate::support::bus::SystemBus;
use crate::support::rig::{agent, signal};

const DEADLINE: Duration = Duration::from_secs(20);
/// Far below what the loop or a health check waits for.
const SOON: Duration = Duration::from_secs(5);
/// Just below what a bus lets through.
const LARGE: usize = 31 << 20;

/// A socket that is full, which waits for an hour when it is closed for good: as
/// long as the other one is there and reads nothing.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (never_reads, _) = listener.accept().unwrap();
    full.set_nonblocking(true).unwrap();
    let error = loop {
        if let Err(error) = full.write(&[0; 64 << 10]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    set_socket_linger(&full, Some(Duration::from_secs(3600))).unwrap();
    (full, never_reads)
}

/// Number of descriptors of this process that are open on the socket.
fn open(socket: &Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter(|entry| {
            let target = std::fs::read_link(entry.as_ref().unwrap().path());
            target.is_ok_and(|target| target == socket)
        })
        .count()
}

async fn connect(bus: &SystemBus) -> Connection {
    let address = bus.address();
    let connect = zbus::connection::Builder::address(address.as_str());
    timeout(DEADLINE, connect.build()).await.unwrap().unwrap()
}

/// Returns the bus's unique name of the agent. Also, the bus has then dealt with all
/// that this connection has sent.
async fn owner(connection: &Connection) -> String {
    let bus = DBusProxy::new(connection).await.unwrap();
    let owner = bus.get_name_owner(BusName::try_from(NAME).unwrap());
    timeout(DEADLINE, owner).await.expect("the bus hangs").unwrap().to_string()
}

async fn status(connection: &Connection) -> Message {
    let asked = connection.call_method(Some(NAME), PATH, Some(NAME), "Status", &());
    timeout(SOON, asked).await.expect("the agent hangs").unwrap()
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_socket_that_lingers_in_a_message_hangs_nobody() {
    let bus = SystemBus::start();
    let rig = on(&bus);
    block(async {
        let connection = connect(&bus).await;
        let agent = owner(&connection).await;
        for by_signal in [false, true] {
            let (full, never_reads) = lingering();
            let socket = std::fs::read_link(format!("/proc/self/fd/{}", full.as_raw_fd())).unwrap();
            let message = if by_signal {
                let signal = Message::signal("/a", "a.b", "C").destination(agent.as_str());
                signal.build(&(Fd::from(full.as_fd()),)).unwrap()
            } else {
                let call = Message::method_call(PATH, "Status").destination(NAME).interface(NAME);
                call.build(&(Fd::from(full.as_fd()),)).unwrap()
            };
            // Whoever takes it shall be the last to have it.
            signal(rig.pid(), "STOP");
            connection.send(&message).await.unwrap();
            assert_eq!(owner(&connection).await, agent);
            assert_eq!(owner(&connection).await, agent);
            // That is this thread, if nobody takes it.
            let closing = std::thread::spawn(move || drop((message, full)));
            rig.wait_for("it to be closed here", || open(&socket) == 0);
            signal(rig.pid(), "CONT");
            let began = Instant::now();
            assert_eq!(rig.tell(&["status"]).0, 0);
            assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
            status(&connection).await;
            drop(never_reads);
            closing.join().unwrap();
        }
        assert_eq!(owner(&connection).await, agent, "it was off the bus");
    });
}

#[test]
fn large_messages_take_no_memory_and_keep_nobody_off_the_bus() {
    let bus = SystemBus::start();
    let rig = on(&bus);
    let status_of = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    block(async {
        let connection = connect(&bus).await;
        let agent = owner(&connection).await;
        status(&connection).await;
        // The peak begins anew.
        std::fs::write(format!("/proc/{}/clear_refs", rig.pid()), "5").unwrap();
        let before = status_of("VmRSS:");
        let strangers: Vec<_> = join_all((0..3).map(|_| connect(&bus))).await;
        let body = (String::from_utf8(vec![b'x'; LARGE]).unwrap(),);
        for method in ["Status", "Accept", "NoSuchMethod"] {
            let calls = strangers
                .iter()
                .map(|stranger| stranger.call_method(Some(NAME), PATH, Some(NAME), method, &body));
            let answers =
                timeout(DEADLINE, join_all(calls)).await.expect("one waits for its answer");
            for answer in answers {
                let error = answer.unwrap_err().to_string();
                assert!(error.contains("longer than it may be"), "{error}");
            }
        }
        for stranger in &strangers {
            let signal = Message::signal("/a", "a.b", "C").destination(agent.as_str());
            stranger.send(&signal.build(&body).unwrap()).await.unwrap();
            assert_eq!(owner(stranger).await, agent);
        }
        status(&connection).await;
        assert_eq!(owner(&connection).await, agent, "it was off the bus");
        let grown = status_of("VmHWM:").saturating_sub(before);
        assert!(grown < 8 << 20, "it took {} KiB", grown >> 10);
    });
}

/// `status --watch`, until the test ends.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_status_that_a_stranger_tells_is_not_shown() {
    let bus = SystemBus::start();
    let rig = on(&bus);
    // Root as well asks on the bus where the agent's own socket is not there.
    let elsewhere = rig.store.dir().join("elsewhere.toml");
    let config = std::fs::read_to_string(rig.config()).unwrap();
    let run_dir = rig.store.dir().join("run").display().to_string();
    assert!(config.contains(&run_dir));
    std::fs::write(&elsewhere, config.replace(&run_dir, "/nowhere/fort-agent")).unwrap();
    block(async {
        let connection = connect(&bus).await;
        let names = DBusProxy::new(&connection).await.unwrap();
        let before = names.list_names().await.unwrap();
        let mut watching = Watching(
            Command::new(agent())
                .arg("--config")
                .arg(&elsewhere)
                .args(["status", "--watch", "--json"])
                .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("\"hostname\":\"joker\""), "{first}");
        let now = names.list_names().await.unwrap();
        let [watcher] = &now.iter().filter(|name| !before.contains(name)).collect::<Vec<_>>()[..]
        else {
            panic!("{before:?} {now:?}")
        };
        let told = first.replace("\"joker\"", "\"not-joker\"");
        let signal = Message::signal(PATH, NAME, "StatusChanged").destination(watcher.as_str());
        connection.send(&signal.build(&(told,)).unwrap()).await.unwrap();
        assert_eq!(rig.tell(&["poll"]).0, 0);
        let next = lines.next().unwrap().unwrap();
        assert!(next.contains("\"hostname\":\"joker\""), "{next}");
    });
}
