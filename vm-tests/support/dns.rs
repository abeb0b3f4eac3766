//! A name server that knows one name: the forge's.

use std::net::{Ipv4Addr, UdpSocket};

use super::cluster::{FORGE, GATEWAY};

/// Serves on the gateway for as long as the world is there.
pub(crate) fn serve() {
    let socket = UdpSocket::bind((GATEWAY, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// RFC 1035, 4.1: one question, and the address if it is the one that is known.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"\x05forge\0";
    const ADDRESS: &[u8] = &[0, 1, 0, 1];
    let name = query.get(12..)?.iter().position(|byte| *byte == 0)? + 13;
    let known = query.get(12..name)?.eq_ignore_ascii_case(NAME);
    let question = query.get(12..name + 4)?;
    let found = known && question.ends_with(ADDRESS);
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(question);
    if found {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(FORGE.parse::<Ipv4Addr>().unwrap().octets());
    }
    Some(answer)
}
