//! Work that cannot be cut off, on a thread of its own: it can only be given up waiting
//! for. A [`Lane`] has so many threads at the most, and an outsider that never answers
//! takes up no more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::clock;
use fort_core::types::Wall;

/// A few threads for one purpose.
#[derive(Clone, Debug)]
pub struct Lane {
    width: usize,
    /// Times since which the threads that are busy work.
    busy: Arc<Mutex<Vec<Wall>>>,
}

/// Reason why there is no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResult {
    /// The work goes on, and is not waited for any more.
    #[error("no answer within {} s", limit.as_secs_f32())]
    Late {
        /// Time that the work was waited for.
        limit: Duration,
    },
    /// The work that was given up has not ended yet: nothing was begun.
    #[error("what was asked at {since} hangs still; nothing new is asked until it ends")]
    Hangs {
        /// Time at which the oldest such work began.
        since: Wall,
    },
    /// The work panicked, which is a mistake in this program.
    #[error("it broke off: a mistake in this program")]
    Broke,
}

impl Lane {
    /// Makes a lane with so many threads at the most.
    pub fn new(width: usize) -> Self {
        Self { width, busy: Arc::default() }
    }

    /// Has work done, and waits for `limit` at the most.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoResult> {
        let occupied = self.occupy()?;
        let done = spawn_blocking(move || {
            let result = work();
            drop(occupied);
            result
        });
        match timeout(limit, done).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(NoResult::Broke),
            Err(_) => Err(NoResult::Late { limit }),
        }
    }

    fn occupy(&self) -> Result<Occupied, NoResult> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = busy.first().filter(|_| busy.len() >= self.width) {
            return Err(NoResult::Hangs { since: *since });
        }
        let now = clock::now().wall;
        busy.push(now);
        Ok(Occupied(self.busy.clone(), now))
    }
}

/// Mark of a busy thread until it is dropped, by a panic at the latest.
struct Occupied(Arc<Mutex<Vec<Wall>>>, Wall);

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = busy.iter().position(|since| *since == self.1) {
            busy.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn work_that_hangs_is_given_up_and_not_begun_again_until_it_ends() {
        let lane = Lane::new(1);
        let (end, ends) = std::sync::mpsc::channel::<()>();
        block(async {
            let limit = Duration::from_millis(20);
            let late = lane.run(limit, move || ends.recv()).await;
            assert_eq!(late.err(), Some(NoResult::Late { limit }));
            for _ in 0..100 {
                let again = lane.run(LONG, || panic!("one hangs already")).await;
                let again: Result<(), _> = again;
                assert!(matches!(again, Err(NoResult::Hangs { .. })), "{again:?}");
            }
            drop(end);
            let ended = async {
                while lane.run(LONG, || ()).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(LONG, ended).await.expect("it has ended");
        });
    }

    #[test]
    fn a_wider_lane_has_a_thread_left() {
        let lane = Lane::new(2);
        let (end, ends) = std::sync::mpsc::channel::<()>();
        block(async {
            let late = lane.run(Duration::from_millis(20), move || ends.recv()).await;
            assert!(matches!(late, Err(NoResult::Late { .. })), "{late:?}");
            assert_eq!(lane.run(LONG, || 1).await, Ok(1));
            assert_eq!(lane.run(LONG, || 2).await, Ok(2));
            drop(end);
        });
    }

    #[test]
    fn a_panic_leaves_the_lane_free() {
        let lane = Lane::new(1);
        block(async {
            let broke: Result<(), _> = lane.run(LONG, || panic!("on purpose")).await;
            assert_eq!(broke, Err(NoResult::Broke));
            assert_eq!(lane.run(LONG, || 1).await, Ok(1));
        });
    }
}
