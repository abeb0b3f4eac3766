//! Asks polkit whether a caller on the system bus may manage the agent.
//!
//! polkit asks the bus who the caller is, so nothing that a caller says of itself
//! counts. Whatever goes wrong here means no. The interface is that of
//! `org.freedesktop.PolicyKit1.Authority`; the action is described in
//! `agent/share/polkit-1`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zbus::{Connection, Variant, fdo};

/// Action of polkit that may be granted: to manage the agent.
pub(super) const ACTION: &str = "network.gisi.fort.agent1.manage";

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

/// Time limit for an answer out of hand.
const ANSWER: Duration = Duration::from_secs(5);
/// Time limit for an answer that a person is asked for: a password, say.
const PERSON: Duration = Duration::from_secs(120);
/// Flag `AllowUserInteraction` of `CheckAuthorization`.
const ASK_A_PERSON: u32 = 1;

/// Answer of polkit about a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    /// The caller may manage the agent.
    Yes,
    /// The caller may not manage the agent.
    No,
    /// The caller may once it has authenticated, for which nobody could be asked.
    Challenge,
    /// There is no polkit on this bus.
    Absent,
    /// Polkit could not tell, for this reason.
    Unknown(String),
}

/// Asks whether the caller of that unique name may manage the agent. `interactive`:
/// whether it is willing to wait until a person was asked.
pub(super) async fn may_manage(
    connection: &Connection,
    sender: &str,
    interactive: bool,
) -> Authorization {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let cancellation = format!("fort-agent-{}", ASKED.fetch_add(1, Ordering::Relaxed));
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(sender))]));
    let details = HashMap::<&str, &str>::new();
    let (flags, limit) = if interactive { (ASK_A_PERSON, PERSON) } else { (0, ANSWER) };
    let question = (subject, ACTION, details, flags, cancellation.as_str());
    let asking =
        connection.call_method(Some(NAME), PATH, Some(INTERFACE), "CheckAuthorization", &question);
    let Ok(answered) = tokio::time::timeout(limit, asking).await else {
        // Who asked waits for that no longer.
        tokio::spawn(cancel(connection.clone(), cancellation.clone()));
        return Authorization::Unknown(format!(
            "polkit does not answer within {} s",
            limit.as_secs()
        ));
    };
    let reply = match answered {
        Ok(reply) => reply,
        Err(zbus::Error::FDO(error)) => {
            let absent =
                matches!(*error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_));
            return if absent {
                Authorization::Absent
            } else {
                Authorization::Unknown(error.to_string())
            };
        }
        Err(zbus::Error::MethodError(name, text, _)) => {
            return Authorization::Unknown(text.unwrap_or_else(|| name.to_string()));
        }
        Err(error) => return Authorization::Unknown(error.to_string()),
    };
    let body = reply.body();
    match body.deserialize::<(bool, bool, HashMap<String, String>)>() {
        Ok((true, _, _)) => Authorization::Yes,
        Ok((false, true, _)) => Authorization::Challenge,
        Ok((false, false, _)) => Authorization::No,
        Err(error) => Authorization::Unknown(error.to_string()),
    }
}

/// Takes the question back: the caller that it was asked for waits no longer.
async fn cancel(connection: Connection, cancellation: String) {
    let cancel = "CancelCheckAuthorization";
    let question = (cancellation.as_str(),);
    let asking = connection.call_method(Some(NAME), PATH, Some(INTERFACE), cancel, &question);
    let _ = tokio::time::timeout(ANSWER, asking).await;
}
