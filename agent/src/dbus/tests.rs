use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use zbus::connection::socket::{ReadHalf as _, WriteHalf as _};
use zbus::message::Message;

use super::transport::{Reader, Writer};
use super::*;

const SMALL: Takes = Takes { calls: 1024, signals: 2048, replies: 4096 };

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn call(name: &str, length: usize) -> Vec<u8> {
    let builder = Message::method_call("/a", name).sender(":1.7");
    builder.build(&("x".repeat(length),)).unwrap().data().to_vec()
}

fn signal(name: &str, length: usize) -> Vec<u8> {
    let builder = Message::signal("/a", "a.b", name);
    builder.build(&("x".repeat(length),)).unwrap().data().to_vec()
}

fn answer(length: usize) -> Vec<u8> {
    let asked = Message::method_call("/a", "Ask").sender(":1.7");
    let asked = asked.build(&()).unwrap();
    let builder = Message::method_return(&asked.header());
    builder.build(&("x".repeat(length),)).unwrap().data().to_vec()
}

/// Feeds zbus a stream in pieces of this size. Returns names of members, with the
/// length of their text, none where it was cut off; and how it ended.
fn heard(peer: Peer, sent: &[u8], pieces: usize) -> (Vec<(String, Option<usize>)>, String) {
    block(async {
        let (read, mut write) = tokio::io::simplex(pieces);
        let mut reader = Reader::new(read, peer, SMALL);
        let reading = async {
            let mut heard = Vec::new();
            loop {
                let message = reader.receive_message(1, &mut Vec::new(), &mut Vec::new()).await;
                let message = match message {
                    Ok(message) => message,
                    Err(error) => return (heard, error.to_string()),
                };
                let text = message.body().deserialize::<String>().ok();
                assert_eq!(text.is_none(), is_cut(&message));
                let name = message.header().member().map(ToString::to_string).unwrap_or_default();
                heard.push((name, text.map(|text| text.len())));
            }
        };
        let writing = async {
            write.write_all(sent).await.unwrap();
            write.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            heard = reading => heard,
            () = writing => unreachable!(),
        }
    })
}

#[test]
fn what_is_too_large_is_read_past_and_what_follows_it_arrives() {
    let sent = [
        call("Whole", 10),
        call("Cut", 10_000),
        signal("Heard", 1100),
        signal("Unheard", 10_000),
        answer(3000),
        // Its head is as long as many a message.
        call(&"M".repeat(255), 0),
        call("Last", 700),
    ]
    .concat();
    let expected = [
        ("Whole".into(), Some(10)),
        ("Cut".into(), None),
        ("Heard".into(), Some(1100)),
        (String::new(), Some(3000)),
        ("M".repeat(255), Some(0)),
        ("Last".into(), Some(700)),
    ];
    for pieces in [1, 7, 16, 4096, 1 << 20] {
        let begun = sent[..pieces.min(40)].to_vec();
        let rest = &sent[begun.len()..];
        let (heard, end) = heard(Peer::Client { begun }, rest, pieces);
        assert_eq!(heard, expected, "{pieces}");
        assert!(end.contains("failed to receive message"), "{end}");
    }
}

#[test]
fn an_answer_that_is_too_large_ends_it_with_its_size() {
    let sent = [b"OK 0123\r\n".to_vec(), answer(10), answer(5000), call("Never", 1)].concat();
    block(async {
        let mut reader = Reader::new(io::Cursor::new(sent), Peer::Bus, SMALL);
        let mut line = [0; 64];
        let (read, _) = reader.recvmsg(&mut line).await.unwrap();
        // Not a byte of what follows: that is no line.
        assert_eq!(&line[..read], b"OK 0123\r\n");
        let mut next = async || reader.receive_message(1, &mut vec![], &mut vec![]).await;
        assert!(next().await.is_ok());
        let error = next().await.unwrap_err().to_string();
        assert!(error.contains("more than 4096 are not taken"), "{error}");
    });
}

#[test]
fn a_head_that_zbus_would_end_the_connection_over_is_read_past() {
    let odd = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = call("Odd", 10);
        change(&mut message);
        message
    };
    // The first field is the path, `/a`.
    let path = 16;
    assert_eq!(call("Odd", 10)[path..path + 4], *b"\x01\x01o\0");
    let unknown_field = odd(&|message| message[path] = 10);
    let descriptors = odd(&|message| message[path..path + 4].copy_from_slice(b"\x09\x01u\0"));
    let unknown_type = odd(&|message| message[1] = 5);
    let odd_variant = odd(&|message| message[path + 2] = b'v');
    let long_field = odd(&|message| message[path + 5] = 0xff);
    for odd in [unknown_field, descriptors, unknown_type, odd_variant, long_field] {
        let sent = [odd, call("Next", 1)].concat();
        let (heard, _) = heard(Peer::Client { begun: vec![] }, &sent, 100);
        assert_eq!(heard, [("Next".into(), Some(1))]);
    }
    let absurd = [b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x01\0\x01\0".to_vec(), vec![0; 65537 + 7]];
    let sent = [absurd.concat(), call("Next", 1)].concat();
    let (heard, _) = heard(Peer::Client { begun: vec![] }, &sent, 100);
    assert_eq!(heard, [("Next".into(), Some(1))]);
}

#[test]
fn what_is_no_message_or_no_handshake_ends_it() {
    for no_message in [
        &b"x\x03\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0"[..],
        b"l\x03\x01\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
        b"l\x03\x01\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\x7f",
    ] {
        let (heard, end) = heard(Peer::Client { begun: vec![] }, no_message, 100);
        assert!(heard.is_empty() && end.contains("no message"), "{end}");
    }
    let (_, end) = heard(Peer::Bus, &[b'x'; 5000], 100);
    assert!(end.contains("does not end"), "{end}");
}

/// An answer of systemd 257, as it was on the wire.
const SYSTEMD_SAYS: &[u8] =
    b"l\x03\x01\x01'\0\0\0\x01\0\0\0g\0\0\0\x05\x01u\0\x01\0\0\0\x04\x01s\0\
    #\0\0\0org.freedesktop.systemd1.NoSuchUnit\0\0\0\0\0\x07\x01s\0\x18\0\0\0\
    org.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x01s\0\0\
    \"\0\0\0Unit takes-one.service not loaded.\0";

#[test]
fn of_what_systemd_says_the_sender_and_nothing_else_is_changed() {
    let sent = [b"OK 0123\r\n", SYSTEMD_SAYS, SYSTEMD_SAYS].concat();
    block(async {
        let mut reader = Reader::new(io::Cursor::new(sent), Peer::Systemd, Takes::ASKING);
        let _ = reader.recvmsg(&mut [0; 64]).await.unwrap();
        for _ in 0..2 {
            let said = reader.receive_message(1, &mut vec![], &mut vec![]).await.unwrap();
            let (name, stand_in) = (&SYSTEMD_SAYS[80..105], b":org.freedesktop.systemd\0");
            assert_eq!(
                (name, &said.data()[80..105]),
                (&b"org.freedesktop.systemd1\0"[..], &stand_in[..])
            );
            assert_eq!(said.data()[..80], SYSTEMD_SAYS[..80]);
            assert_eq!(said.data()[105..], SYSTEMD_SAYS[105..]);
        }
    });
}

#[test]
fn a_peer_that_takes_nothing_is_not_written_to_for_ever() {
    block(async {
        let (near, _far) = UnixStream::pair().unwrap();
        let (mut read, write) = near.into_split();
        let mut writer = Writer { write, patience: Duration::from_millis(20) };
        let error = loop {
            if let Err(error) = writer.sendmsg(&[0; 8192], &[]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Whoever reads learns of it.
        assert_eq!(read.read(&mut [0; 16]).await.unwrap(), 0);
    });
}

#[test]
fn only_unix_sockets_are_connected_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus").display().to_string();
    let connect = |address: &str| {
        let address = Address::try_from(address).unwrap();
        bus(address, Takes::ASKING)
    };
    block(async {
        for other in ["tcp:host=localhost,port=1", "unix:dir=/tmp", "unix:tmpdir=/tmp"] {
            let error = connect(other).await.unwrap_err().to_string();
            assert!(error.contains(other) && error.contains("unix:path="), "{error}");
        }
        let address = format!("unix:path={path}");
        let error = connect(&address).await.unwrap_err().to_string();
        assert!(error.contains(&path) && error.contains("No such file"), "{error}");
        let _listens = UnixListener::bind(&path).unwrap();
        assert!(connect(&address).await.is_ok());
        // Its name is not in the file system.
        let _listens = UnixListener::bind(format!("\0{path}")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(connect(&format!("unix:abstract={path}")).await.is_ok());
    });
}

fn sources(under: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The sources of the agent and of the crates below it.
fn all_sources() -> Vec<(String, String)> {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in [agent.join("src"), agent.join("../crates")] {
        sources(&directory, &mut found);
    }
    found
}

/// Clippy's list of methods is for `core/`, and can be switched on or off only as
/// a whole.
#[test]
fn no_other_module_makes_a_connection() {
    let found = all_sources();
    assert!(found.len() > 200);
    let ways =
        ["connection::Builder", "conn::Builder", "connection::{", "conn::{", "zbus::blocking"];
    let direct = ["Connection::system", "Connection::session"];
    for (path, text) in found.iter().filter(|(path, _)| !path.contains("/src/dbus/")) {
        for way in ways.iter().chain(&direct) {
            assert!(!text.contains(way), "{path} has {way}: dbus/ is where connections are made");
        }
    }
}

/// dbus-broker does not leave them out for who takes none: it disconnects them.
#[test]
fn nothing_asks_the_bus_for_an_answer_with_descriptors() {
    let found = all_sources();
    assert!(found.len() > 200);
    for (path, text) in found.iter().filter(|(path, _)| !path.ends_with("/src/dbus/tests.rs")) {
        for way in ["get_connection_credentials", "GetConnectionCredentials"] {
            assert!(!text.contains(way), "{path} has {way}: its answer has a process's descriptor");
        }
    }
}
