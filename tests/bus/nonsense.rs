//! Malformed and senseless calls, thousands of them: they end at most the
//! connection that they came on.

use std::path::Path;
use std::time::{Duration, Instant};

use fort_agent::bus::{NAME, PATH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::message::{Flags, Message};

use super::on;
use crate::support::bus::SystemBus;
use crate::support::chance::Chance;
use crate::support::rig::Rig;

const DEADLINE: Duration = Duration::from_secs(20);

/// A call that is well-formed, and mostly makes no sense. No answer is wanted:
/// there are too many.
fn call(chance: &mut Chance, destination: Option<&str>) -> Message {
    let members = ["Status", "History", "Poll", "Accept", "Retry", "Get", "GetAll", "Set", "Nope"];
    let interfaces =
        [NAME, NAME, NAME, "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.Peer", "a.b"];
    let paths = [PATH, PATH, PATH, "/", "/network/gisi", "/network/gisi/fort/Agent1/x"];
    let mut builder = Message::method_call(chance.of(&paths), chance.of(&members));
    if let Some(destination) = destination {
        builder = builder.destination(destination);
    }
    if chance.below(8) > 0 {
        builder = builder.interface(chance.of(&interfaces));
    }
    let builder = builder.with_flags(Flags::NO_REPLY_EXPECTED);
    let length = chance.of(&[0, 1, 7, 40, 41, 4096, 1 << 20]);
    let text = chance.of(&["x", "0", "é", "../", "\u{202e}"]).repeat(length);
    let built = match chance.below(9) {
        0 => builder.build(&()),
        1 => builder.build(&(text.as_str(),)),
        2 => builder.build(&(chance.next(),)),
        3 => builder.build(&(text.as_str(), text.as_str())),
        4 => builder.build(&(u32::MAX,)),
        5 => builder.build(&(NAME, "State", zbus::Variant::from(text.as_str()))),
        6 => builder.build(&(vec![vec![chance.next(); 3]; chance.below(50)],)),
        7 => builder.build(&(NAME, chance.of(&["State", "InSync", "", "X"]))),
        _ => builder.build(&((((true, -1i16), 0.5f64), "s"), vec![("a", 1u8)])),
    };
    built.unwrap()
}

/// A message with some bytes of it changed, added or cut off.
fn damaged(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = call(chance, None).data().to_vec();
    bytes.truncate(64 << 10);
    for _ in 0..=chance.below(6) {
        // Mostly in its head.
        let within = if chance.below(3) > 0 { 120 } else { usize::MAX };
        let at = chance.below(bytes.len().min(within));
        match chance.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, u8::try_from(chance.below(256)).unwrap()),
            _ => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
        }
    }
    bytes
}

fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The agent is as it was: it lives, answers at once, and holds nothing.
fn unimpressed(rig: &mut Rig, before: usize) {
    assert!(rig.lives(), "it died");
    let began = Instant::now();
    assert_eq!(rig.tell(&["status"]).0, 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let polled = rig.forge.counts().requests;
    assert_eq!(rig.tell(&["poll"]).0, 0);
    assert!(rig.forge.counts().requests > polled, "the loop does not turn");
    let pid = rig.pid();
    rig.wait_for("what was opened to be closed", || descriptors(pid) <= before);
    assert!(memory(pid) < 100, "{} MiB", memory(pid));
    assert!(!rig.log().contains("panicked"), "{}", rig.log());
}

async fn open(socket: &Path) -> UnixStream {
    let mut stream = timeout(DEADLINE, UnixStream::connect(socket)).await.unwrap().unwrap();
    stream.write_all(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n").await.unwrap();
    let mut answer = [0; 37];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"OK "), "{answer:?}");
    stream
}

#[test]
fn on_the_socket() {
    assert!(rustix::process::geteuid().is_root(), "the socket is for root");
    let bus = SystemBus::start();
    let mut rig = on(&bus);
    let before = descriptors(rig.pid());
    let socket = rig.store.dir().join("run/bus");
    let mut chance = Chance(0x5eed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stream = open(&socket).await;
        for n in 0..4000 {
            let message = match n % 4 {
                0 => call(&mut chance, None).data().to_vec(),
                1 | 2 => damaged(&mut chance),
                _ => (0..chance.below(300)).map(|_| chance.next().to_le_bytes()[0]).collect(),
            };
            // It hangs up, which is its right. What it does not answer must not
            // fill its side, either.
            let sent = timeout(DEADLINE, stream.write_all(&message)).await;
            let gone = sent.expect("it reads no more").is_err();
            if gone || n % 16 == 15 {
                drop(stream);
                stream = open(&socket).await;
            }
        }
    });
    unimpressed(&mut rig, before);
}

#[test]
fn on_the_system_bus() {
    let bus = SystemBus::start();
    let mut rig = on(&bus);
    let before = descriptors(rig.pid());
    let mut chance = Chance(0xbadcab1e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = bus.address();
        let connect = zbus::connection::Builder::address(address.as_str());
        let connection = timeout(DEADLINE, connect.build()).await.unwrap().unwrap();
        let names = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let owner = async || names.get_name_owner(NAME.try_into().unwrap()).await.unwrap();
        let agent = owner().await;
        for n in 0..3000 {
            let message = call(&mut chance, Some(NAME));
            timeout(DEADLINE, connection.send(&message)).await.unwrap().unwrap();
            if n % 100 == 99 {
                // It has dealt with all of these.
                let asked = connection.call_method(Some(NAME), PATH, Some(NAME), "Status", &());
                timeout(DEADLINE, asked).await.expect("it is slow").unwrap();
            }
        }
        assert_eq!(owner().await, agent, "it was off the bus");
    });
    unimpressed(&mut rig, before);
}
