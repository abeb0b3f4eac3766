//! How systemd's jobs end: it tells, in a signal, and no property keeps it.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::time::timeout;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedObjectPath};

use super::proxy::ManagerProxy;
use super::{CALL, Failed, limited};

/// Largest number of signals that wait: a whole host's units may end while nobody looks,
/// and one signal more would keep the answer to a call from being read.
const MOST_WAITING: usize = 16_384;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Path of a job's object, and systemd's word for how it ended.
type Ended = (OwnedObjectPath, String);

/// Stream of the ends of all jobs from now on.
pub(super) struct Finished(Pin<Box<dyn Stream<Item = Ended> + Send>>);

impl Finished {
    /// Begins to listen. To be called before a job is started: the job may end at once.
    pub(super) async fn listen(manager: &ManagerProxy<'static>) -> Result<Self, Failed> {
        let what = "systemd's signals";
        if manager.inner().connection().is_bus() {
            limited(what, CALL, manager.subscribe()).await?;
            let removed = limited(what, CALL, manager.receive_job_removed()).await?;
            let ended = removed.filter_map(async |signal| {
                let arguments = signal.args().ok()?;
                Some((arguments.job().clone(), arguments.result().clone()))
            });
            return Ok(Self(Box::pin(ended)));
        }
        // With nobody between there is nobody who could ask who systemd is.
        let most = NonZeroUsize::new(MOST_WAITING);
        let connection = manager.inner().connection();
        let heard = async {
            let rule = MatchRule::builder().msg_type(Type::Signal).interface(MANAGER);
            MessageStream::for_match_rule(rule.member("JobRemoved").build()?, connection, most)
                .await
        };
        let removed = limited(what, CALL, heard).await?;
        let ended = removed.filter_map(async |message| {
            let message = message.ok()?;
            let body = message.body();
            let (_, job, _, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize().ok()?;
            Some((job, result))
        });
        Ok(Self(Box::pin(ended)))
    }

    /// Waits for the end of a job of this unit.
    pub(super) async fn wait(
        &mut self,
        job: &OwnedObjectPath,
        unit: &str,
        what: &'static str,
        limit: Duration,
    ) -> Result<(), Failed> {
        let result = async {
            while let Some((ended, result)) = self.0.next().await {
                if ended == *job {
                    return result;
                }
            }
            "systemd went away".to_owned()
        };
        match timeout(limit, result).await {
            // Skipped: there was nothing to do.
            Ok(result) if result == "done" || result == "skipped" => Ok(()),
            Ok(result) => Err(Failed::Job { unit: unit.to_owned(), result }),
            Err(_) => Err(Failed::Late { what, limit }),
        }
    }
}
