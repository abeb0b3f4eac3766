//! Runs a program as another user, from which it cannot come back.

use std::io;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

/// A user and its groups, as the kernel knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's own group.
    pub gid: u32,
    /// Numbers of the other groups that the user is in.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Starts a program as this user. It can gain nothing more, whatever it runs
    /// (`no_new_privs`). Takes CAP_SETUID and CAP_SETGID.
    ///
    /// Users, groups and `no_new_privs` belong to a thread, and what a thread
    /// starts inherits them: so it is started by a thread of its own, and the
    /// others of this process stay what they are.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let runtime = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let _entered = runtime.enter();
                self.become_it()?;
                command.spawn()
            });
            let lost = |_| Err(io::Error::other("the thread that was to start it is gone"));
            starting.join().unwrap_or_else(lost)
        })
    }

    /// Makes the calling thread this user's, for good.
    fn become_it(&self) -> rustix::io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        set_no_new_privs(true)?;
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        // The last: with root's number go its capabilities.
        set_thread_res_uid(uid, uid, uid)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_program_is_another_user_for_good_and_its_parent_stays_root() {
        assert!(rustix::process::geteuid().is_root(), "only root can become somebody else");
        let user = Credentials { uid: 65_534, gid: 65_534, groups: vec![65_533] };
        let script = "id -u; id -G; grep -E '^(NoNewPrivs|CapEff|CapPrm|CapAmb)' /proc/self/status";
        let command = crate::command::Command::new("/bin/sh")
            .args(["-c", script])
            .environment([("PATH", "/usr/bin:/bin")])
            .user(user);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(command.run(pending())).unwrap();
        let said: Vec<String> = String::from_utf8(done.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let none = "0000000000000000";
        let expected = [
            "65534".to_owned(),
            "65534 65533".to_owned(),
            format!("CapPrm: {none}"),
            format!("CapEff: {none}"),
            format!("CapAmb: {none}"),
            "NoNewPrivs: 1".to_owned(),
        ];
        assert_eq!(said, expected);
        // In no thread of this process: all that is started later is root's again.
        let again = crate::command::Command::new("/usr/bin/id").args(["-u"]);
        assert_eq!(runtime.block_on(again.run(pending())).unwrap().stdout, b"0\n");
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(own.contains("NoNewPrivs:\t0"), "{own}");
    }
}
