//! How the server misbehaves, or what stands in front of it does.

use std::net::TcpStream;

use super::super::forge::wait_for;
use super::seen::Kind;
use super::{Attic, Phase};

/// One way to misbehave; see [`super::Attic::fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server does not misbehave.
    None,
    /// Answers have this status, worded as the server's own failures.
    Status(u16),
    /// An upload is neither stored nor answered before one that refers to it
    /// has come but for its end; this path is.
    AwaitsFollower { last: String },
    /// Contents that are there already need not be sent to be believed.
    NoProof,
    /// Bodies come and go at this many bytes in a second.
    Slow(u64),
    /// The connection goes when half of an upload was read.
    CutUpload,
    /// The connection goes in the middle of the answer; what was asked for is
    /// done.
    CutAnswer,
    /// No more than half of an upload is ever read.
    StallUpload,
    /// The rest of the answer never comes; what was asked for is done.
    StallAnswer,
    /// Requests are not read further than their heads, and never answered.
    Hang,
    /// There is no room any more when half of an upload was written.
    FullDisk,
    /// Every token has expired.
    ExpiredTokens,
    /// A proxy lets no body through that is longer: 413 and a page.
    ProxyBody(u64),
    /// A proxy lets no header line through that is longer: 400 and a page.
    ProxyHeader(usize),
    /// Every request is redirected below this address, its method kept.
    Redirect(String),
    /// Another web server: 200 and a page, whatever is asked.
    WebServer,
    /// Another web server: 404 and a page, whatever is asked.
    NotFoundPages,
    /// The cache's configuration says that the API is here.
    Elsewhere(String),
    /// Answers end in the middle, and are well-formed as far as HTTP goes.
    Truncated,
    /// Nobody listens at the server's address.
    Refused,
}

/// A fault, for which requests, after how many of them, and for how many.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    pub(super) only: Option<Kind>,
    pub(super) spared: u64,
    pub(super) left: Option<u64>,
}

impl Plan {
    pub(super) fn new(fault: Fault, only: Option<Kind>) -> Self {
        Self { fault, only, spared: 0, left: None }
    }

    /// Returns the fault for the next request of this kind, and counts it.
    pub(super) fn take(&mut self, kind: Kind) -> Fault {
        if self.only.is_some_and(|only| only != kind) {
            return Fault::None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return Fault::None;
        }
        match &mut self.left {
            None => self.fault.clone(),
            Some(0) => Fault::None,
            Some(left) => {
                *left -= 1;
                self.fault.clone()
            }
        }
    }
}

impl Attic {
    /// Misbehave from now on, kept connections included. Returns when the
    /// port is in the state asked for.
    pub(crate) fn fault(&self, fault: Fault) {
        let refused = fault == Fault::Refused;
        let was_refused = self.shared.life.borrow().phase == Phase::Refusing;
        *self.shared.plan.lock().unwrap() = Plan::new(fault, None);
        if refused {
            self.shared.refuse();
        } else {
            self.shared.life.send_modify(|life| life.phase = Phase::Listening);
        }
        if refused || was_refused {
            wait_for("the port to open or close", || self.is_listening() != refused);
        }
    }

    /// Misbehave when asked this, and only then.
    pub(crate) fn fault_for(&self, only: Kind, fault: Fault) {
        assert_ne!(fault, Fault::Refused, "a port is closed for everything");
        *self.shared.plan.lock().unwrap() = Plan::new(fault, Some(only));
    }

    /// The same for so many times.
    pub(crate) fn fault_next(&self, times: u64, only: Kind, fault: Fault) {
        assert_ne!(fault, Fault::Refused, "a port is closed for everything");
        *self.shared.plan.lock().unwrap() =
            Plan { left: Some(times), ..Plan::new(fault, Some(only)) };
    }

    /// The same after so many of them.
    pub(crate) fn fault_after(&self, spared: u64, only: Kind, fault: Fault) {
        let plan = Plan { spared, ..Plan::new(fault, Some(only)) };
        *self.shared.plan.lock().unwrap() = plan;
    }

    /// Kills the server once it has confirmed so many uploads from now on: uploads that
    /// are under way then break, and nobody listens until [`Fault::None`].
    pub(crate) fn dies_after(&self, uploads: u64) {
        self.shared.seen.last_after(uploads);
    }

    pub(crate) fn is_listening(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// Drops every connection to the server.
    pub(crate) fn disconnect(&self) {
        self.shared.life.send_modify(|life| life.generation += 1);
    }
}
