//! Tells a server what is here already, so that it sends the rest.
//!
//! Instead of gix's own negotiator, which cannot get past a commit that it cannot
//! read (see [`super::history`]), and asks for every object however large.
//!
//! Commits of the clone are named newest first, in batches that double, until the
//! server has heard enough or there are no more: gitprotocol-pack(5), gitprotocol-v2(5).

use gix::ObjectId;
use gix::protocol::fetch::negotiate::{Action, Round, one_round};
use gix::protocol::fetch::response::Acknowledgement;
use gix::protocol::fetch::{Arguments, Negotiate, Response};

use super::history::Walk;

const FIRST_BATCH: usize = 32;
const LARGEST_BATCH: usize = 4096;
/// Commits after which no more are named: the server has another history, and it is
/// cheaper to send all of that.
const MOST: usize = 16 << 10;

/// Commits that are wanted, and those that are here.
pub(super) struct Haves<'a> {
    wanted: Vec<ObjectId>,
    largest: Option<u64>,
    stateless: bool,
    here: Walk<'a>,
    batch: usize,
    told: usize,
    common: Vec<ObjectId>,
}

impl<'a> Haves<'a> {
    /// `largest`: the size of the largest file that is wanted, in bytes, of a server
    /// that can leave out others. `stateless`: it keeps nothing between two
    /// requests, and has to be told all of it again.
    pub(super) fn new(
        wanted: Vec<ObjectId>,
        largest: Option<u64>,
        stateless: bool,
        here: Walk<'a>,
    ) -> Self {
        let common = Vec::new();
        Self { wanted, largest, stateless, here, batch: FIRST_BATCH, told: 0, common }
    }
}

impl Negotiate for Haves<'_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<Action> {
        Ok(Action::MustNegotiate { remote_ref_target_known: Vec::new() })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, _known: &[bool]) -> bool {
        if let Some(largest) = self.largest.filter(|_| arguments.can_use_filter()) {
            // It leaves out those of this size too.
            arguments.filter(&format!("blob:limit={}", largest.saturating_add(1)));
        }
        self.wanted.iter().for_each(|id| arguments.want(id));
        !self.wanted.is_empty()
    }

    fn one_round(
        &mut self,
        _state: &mut one_round::State,
        arguments: &mut Arguments,
        previous: Option<&Response>,
    ) -> gix::Result<(Round, bool)> {
        let acknowledged = previous.map_or(&[][..], Response::acknowledgements);
        let before = self.common.len();
        self.common.extend(acknowledged.iter().filter_map(Acknowledgement::id));
        if self.stateless {
            self.common.iter().for_each(|id| arguments.have(id));
        }
        let mut sent = 0;
        while sent < self.batch {
            // What cannot be read any further is not told any further.
            let Some(Ok(id)) = self.here.next() else { break };
            arguments.have(id);
            sent += 1;
        }
        self.told += sent;
        let done = sent < self.batch || self.told >= MOST;
        let round = Round {
            haves_sent: sent,
            in_vain: 0,
            haves_to_send: self.batch,
            previous_response_had_at_least_one_in_common: self.common.len() > before,
        };
        self.batch = (self.batch * 2).min(LARGEST_BATCH);
        Ok((round, done))
    }
}
