//! A small web site on loopback: for builds that download, and for health
//! checks. What it answers can be changed, and it can keep its visitors
//! waiting.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// The site, for as long as the test's process lives.
pub(crate) struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    changed: Condvar,
}

#[derive(Clone)]
struct Answer {
    status: u16,
    contents: String,
    held: bool,
    visitors: usize,
}

impl Site {
    /// One that has nothing: 404.
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Answer { status: 404, contents: String::new(), held: false, visitors: 0 };
        let shared = Arc::new(Shared { answer: Mutex::new(answer), changed: Condvar::new() });
        let site = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        site
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/file", self.address)
    }

    /// From now on every request is answered so; those that wait are, too.
    pub(crate) fn answer(&self, status: u16, contents: &str) {
        let mut answer = self.shared.answer.lock().unwrap();
        *answer = Answer { status, contents: contents.into(), held: false, ..answer.clone() };
        self.shared.changed.notify_all();
    }

    /// From now on nobody is answered.
    pub(crate) fn hold(&self) {
        self.shared.answer.lock().unwrap().held = true;
    }

    /// How many came so far.
    pub(crate) fn visitors(&self) -> usize {
        self.shared.answer.lock().unwrap().visitors
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let mut answer = shared.answer.lock().unwrap();
    answer.visitors += 1;
    while answer.held {
        answer = shared.changed.wait(answer).unwrap();
    }
    let Answer { status, contents, .. } = answer.clone();
    drop(answer);
    let length = contents.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{contents}"
    );
}
