//! Connections, and which of them is ended when there are too many.
//!
//! A request's head comes in one piece and is answered at once, so a connection
//! that has not sent one yet is the one to end: the oldest of the same address if
//! that has more than its share, or else the oldest of all. Whoever asks is let
//! in, however many are silent.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Whether a connection has sent a request's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections that there are, oldest first, and how many there may be.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    of_one: usize,
    taken: VecDeque<Taken>,
}

#[derive(Debug)]
struct Taken {
    by: IpAddr,
    asked: Asked,
    connection: AbortHandle,
}

impl Places {
    /// Creates room for so many connections in all, and of these for one address.
    pub(super) fn new(all: usize, of_one: usize) -> Self {
        Self { all, of_one, taken: VecDeque::new() }
    }

    /// Makes room for one more from this address. False if there is none: as many
    /// as it may have are just being answered.
    pub(super) fn make_room(&mut self, from: IpAddr) -> bool {
        self.taken.retain(|taken| !taken.connection.is_finished());
        let from = neighbourhood(from);
        let its = |taken: &Taken| taken.by == from;
        if self.taken.iter().filter(|taken| its(taken)).count() >= self.of_one {
            return self.end_first(its);
        }
        self.taken.len() < self.all || self.end_first(|_| true)
    }

    pub(super) fn take(&mut self, from: IpAddr, asked: Asked, connection: AbortHandle) {
        self.taken.push_back(Taken { by: neighbourhood(from), asked, connection });
    }

    /// Ends the oldest of these that has not asked anything yet.
    fn end_first(&mut self, among: impl Fn(&Taken) -> bool) -> bool {
        let silent = self.taken.iter().position(|taken| !taken.asked.get() && among(taken));
        let ended = silent.and_then(|at| self.taken.remove(at));
        ended.iter().for_each(|taken| taken.connection.abort());
        ended.is_some()
    }
}

/// Returns the network of an IPv6 address: a host that has one has 2^64 of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_owner_are_one() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("fd00::1"), of("fd00::2:3:4:5"));
        assert_ne!(of("fd00::1"), of("fd00:0:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
