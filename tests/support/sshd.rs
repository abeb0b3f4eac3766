//! Debian's sshd on a port of its own, on loopback, with keys of its own; it
//! lets the user of the tests in by one key and reads nothing of the machine's.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fort_agent::git::Remote;

use super::forge::wait_for;

const SSHD: &str = "/usr/sbin/sshd";

pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    address: SocketAddr,
    process: Child,
}

impl Sshd {
    /// One that takes `GIT_PROTOCOL`, as forges do.
    pub(crate) fn start() -> Self {
        Self::start_with("AcceptEnv GIT_PROTOCOL\n")
    }

    /// One with these lines in its configuration.
    pub(crate) fn start_with(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["host_key", "key", "stranger"] {
            make_key(&dir.path().join(name));
        }
        std::fs::copy(dir.path().join("key.pub"), dir.path().join("authorized_keys")).unwrap();
        if rustix::process::geteuid().is_root() {
            // Its own place, which Debian's unit would make.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let address = free_port();
        let at = dir.path().display();
        let text = format!(
            "ListenAddress {address}\nHostKey {at}/host_key\nAuthorizedKeysFile \
             {at}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel ERROR\n{lines}"
        );
        let config = dir.path().join("sshd_config");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("openssh-server is installed");
        let sshd = Self { dir, address, process };
        wait_for("sshd", || TcpStream::connect(address).is_ok());
        let public = std::fs::read_to_string(sshd.file("host_key.pub")).unwrap();
        sshd.know(&public);
        sshd
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets the host key that the server's clients accept from now on.
    pub(crate) fn know(&self, public_key: &str) {
        let line = match public_key {
            "" => String::new(),
            key => format!("[127.0.0.1]:{} {key}", self.address.port()),
        };
        std::fs::write(self.file("known_hosts"), line).unwrap();
    }

    pub(crate) fn url(&self, bare: &Path) -> String {
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        format!("ssh://{}@{}{}", user.trim(), self.address, bare.display())
    }

    /// How an agent is told of a repository here.
    pub(crate) fn remote(&self, bare: &Path) -> Remote {
        Remote {
            name: "origin".into(),
            url: self.url(bare),
            username: String::new(),
            token_file: None,
            ca_file: None,
            ssh_key_file: Some(self.file("key")),
            known_hosts: Some(self.file("known_hosts")),
            timeout: Duration::from_secs(10),
        }
    }

    /// The ssh programs that use its keys.
    pub(crate) fn clients(&self) -> Vec<u32> {
        let mark = self.file("known_hosts").display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&mark)
        };
        pids.filter(ours).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A new key pair without a passphrase: `file` and `file.pub`.
pub(crate) fn make_key(file: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(file)
        .stdin(Stdio::null())
        .status();
    assert!(made.expect("openssh-client is installed").success());
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
