//! logind: what stands against a reboot now, and the reboot itself.
//!
//! Neither the holder of an inhibitor nor a user that is logged in is asked: the agent
//! waits, or says. Interface: org.freedesktop.login1(5).

use futures_util::future::join_all;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, proxy};

use super::{CALL, Failed, limited, system_bus};
use crate::command::plain;

/// `SD_LOGIND_ROOT_CHECK_INHIBITORS`: without it root is asked for no leave.
const CHECK_INHIBITORS: u64 = 1;
/// Longest text that is shown of what stands in the way, in characters.
const MOST_CHARACTERS: usize = 200;

/// `ListInhibitors`: what, who, why, mode, user and process.
type Inhibitor = (String, String, String, String, u32, u32);
/// `ListSessions`: id, user's number and name, seat, and its object.
type Listed = (String, u32, String, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn list_inhibitors(&self) -> zbus::Result<Vec<Inhibitor>>;
    fn list_sessions(&self) -> zbus::Result<Vec<Listed>>;
    fn reboot_with_flags(&self, flags: u64) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.login1.Session", default_service = "org.freedesktop.login1")]
trait Session {
    #[zbus(property)]
    fn class(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(property, name = "TTY")]
    fn tty(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn remote_host(&self) -> zbus::Result<String>;
}

/// A connection to logind.
#[derive(Debug)]
pub struct Logind {
    manager: ManagerProxy<'static>,
}

impl Logind {
    /// Connects over the system bus.
    pub async fn connect() -> Result<Self, Failed> {
        Self::on(&system_bus().await?).await
    }

    /// Connects to logind over some bus.
    pub async fn on(bus: &Connection) -> Result<Self, Failed> {
        let manager = ManagerProxy::builder(bus).cache_properties(CacheProperties::No);
        Ok(Self { manager: limited("logind", CALL, manager.build()).await? })
    }

    /// Returns what stands against a reboot now, in words for people: inhibitors that
    /// block shutting down, with their reasons, and users that are logged in. Empty:
    /// nothing does.
    pub async fn against_reboot(&self) -> Result<Vec<String>, Failed> {
        let inhibitors = limited("logind", CALL, self.manager.list_inhibitors()).await?;
        let sessions = limited("logind", CALL, self.manager.list_sessions()).await?;
        let looks = sessions.into_iter().map(|session| self.logged_in(session));
        let mut logged_in = Vec::new();
        for user in join_all(looks).await {
            logged_in.extend(user?);
        }
        logged_in.sort();
        logged_in.dedup();
        Ok(inhibitors.into_iter().filter_map(blocks).chain(logged_in).collect())
    }

    /// Reboots the host in order. Refused while an inhibitor blocks it, even
    /// one that came after the last look.
    pub async fn reboot(&self) -> Result<(), Failed> {
        limited("the reboot", CALL, self.manager.reboot_with_flags(CHECK_INHIBITORS)).await
    }

    /// Returns the user that is logged in by a session, if it is a person's.
    async fn logged_in(&self, listed: Listed) -> Result<Option<String>, Failed> {
        let (_, _, name, _, path) = listed;
        let look = async {
            let session = SessionProxy::builder(self.manager.inner().connection())
                .path(path)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let (class, state) = (session.class().await?, session.state().await?);
            let place = (session.tty().await?, session.remote_host().await?);
            zbus::Result::Ok((class, state, place))
        };
        match limited("a session", CALL, look).await {
            Ok((class, state, (tty, host))) if is_person(&class, &state) => {
                Ok(Some(user(&name, &tty, &host)))
            }
            // Not a person's, or it went while it was looked at.
            Ok(_) | Err(Failed::Bus { .. }) => Ok(None),
            Err(late) => Err(late),
        }
    }
}

/// Whether a session is a person's: of class `user` or of one of its kinds (`user-early`
/// is root's); not a greeter, cron's, or the user's service manager. One that is closing
/// is of somebody who has logged out and left something running.
fn is_person(class: &str, state: &str) -> bool {
    (class == "user" || class.starts_with("user-")) && state != "closing"
}

fn user(name: &str, tty: &str, host: &str) -> String {
    let on = if tty.is_empty() { String::new() } else { format!(" on {tty}") };
    let from = if host.is_empty() { String::new() } else { format!(" from {host}") };
    shown(&format!("{name} is logged in{on}{from}"))
}

/// Describes an inhibitor that blocks shutting down, and its reason. One that only delays
/// does not.
fn blocks(inhibitor: Inhibitor) -> Option<String> {
    let (what, who, why, mode, _, process) = inhibitor;
    // `block-weak` is one that root may pass by; the agent is not in such haste.
    let blocks = matches!(mode.as_str(), "block" | "block-weak")
        && what.split(':').any(|what| what == "shutdown");
    blocks.then(|| shown(&format!("{who} (process {process}) blocks shutting down: {why}")))
}

/// Returns a text that others chose, on one line and not too long.
fn shown(text: &str) -> String {
    let line = plain(text.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(MOST_CHARACTERS).collect();
    if short.len() < line.len() { short + "..." } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inhibitor(what: &str, mode: &str, why: &str) -> Option<String> {
        blocks((what.into(), "backup".into(), why.into(), mode.into(), 0, 42))
    }

    #[test]
    fn only_who_blocks_shutting_down_is_in_the_way() {
        let blocked = Some("backup (process 42) blocks shutting down: copying to tape".to_owned());
        assert_eq!(inhibitor("shutdown", "block", "copying to tape"), blocked);
        assert_eq!(inhibitor("sleep:shutdown:idle", "block-weak", "copying to tape"), blocked);
        assert_eq!(inhibitor("shutdown", "delay", "copying to tape"), None);
        assert_eq!(inhibitor("sleep:handle-power-key", "block", "copying to tape"), None);
    }

    #[test]
    fn the_words_of_others_are_short_and_on_one_line() {
        let said = inhibitor("shutdown", "block", "a\nb\u{1b}[31m  c").unwrap();
        assert_eq!(said, "backup (process 42) blocks shutting down: a b c");
        let said = inhibitor("shutdown", "block", &"ä".repeat(10_000)).unwrap();
        assert_eq!(said.chars().count(), MOST_CHARACTERS + 3);
    }

    #[test]
    fn people_are_logged_in_and_services_are_not() {
        for class in ["user", "user-early", "user-light", "user-incomplete"] {
            assert!(is_person(class, "active") && is_person(class, "online"), "{class}");
            assert!(!is_person(class, "closing"), "{class}");
        }
        for class in ["manager", "manager-early", "greeter", "lock-screen", "background", ""] {
            assert!(!is_person(class, "active"), "{class}");
        }
        assert_eq!(user("ada", "", ""), "ada is logged in");
        assert_eq!(user("ada", "pts/0", "10.0.0.2"), "ada is logged in on pts/0 from 10.0.0.2");
    }
}
