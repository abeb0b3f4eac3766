//! Reboots, power cuts and the end of a host.

use super::*;

impl Machine {
    /// Reboots it as `systemctl reboot` does, and waits until it is up.
    #[track_caller]
    pub(crate) fn reboot(&self) {
        let boots = self.boots();
        // The connection may go before the answer.
        self.run(&["systemctl", "reboot"]);
        self.wait_until("it to reboot", || self.boots() > boots);
        self.wait_booted();
    }

    /// Takes the power away: every process ends at once, the disk stays.
    pub(crate) fn power_cut(&self) {
        let Some(mut power) = self.power.borrow_mut().take() else { return };
        // A kernel that goes on would still answer, and send what was written: its
        // link outlives the processes, while connections wait for an answer for
        // half a minute. One that is not there yet is none.
        let _ = Command::new("ip").args(["link", "delete", &self.wire()]).output().unwrap();
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
        power.wait().unwrap();
        let events = self.cgroup.join("cgroup.events");
        let deadline = Instant::now() + LONG;
        while !fs::read_to_string(&events).unwrap().contains("populated 0") {
            assert!(Instant::now() < deadline, "{} does not die", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
        // What is left of its groups would keep it from booting again.
        for part in ["power", "host"] {
            remove_groups(&self.cgroup.join(part));
            fs::create_dir_all(self.cgroup.join(part)).unwrap();
        }
    }

    /// Shuts it down in order.
    pub(crate) fn shut_down(&self) {
        self.run(&["systemctl", "poweroff"]);
        let deadline = Instant::now() + LONG;
        while self.leader().is_some() {
            assert!(Instant::now() < deadline, "{} does not shut down", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.power_cut();
    }
}
