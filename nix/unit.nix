# The agent's unit, and the timer that starts it should it be gone.
#
# What runs in it: the loop, polls and fetches, health checks, hooks, the page.
# What does not: realise, switch and publish. Those are transient units that
# systemd starts when it is asked over D-Bus, without any of this sandbox: they
# build, activate and set the system profile. A store path's roots are made by
# Nix's daemon.
{
  description = "Keeps this host at what a git branch says";
  wantedBy = [ "multi-user.target" ];
  wants = [ "network-online.target" ];
  after = [
    "network-online.target"
    "nix-daemon.socket"
    "dbus.socket"
  ];
  # However often it fails it is started again: nobody else would mend the host.
  startLimitIntervalSec = 0;
  # A switch never stops it before everything else and starts it after, which
  # would leave the host without it if that switch is killed: it is restarted.
  stopIfChanged = false;

  serviceConfig = {
    Type = "notify";
    NotifyAccess = "main";
    WatchdogSec = "60s";
    Restart = "always";
    RestartSec = "2s";
    RestartSteps = 5;
    RestartMaxDelaySec = "60s";
    TimeoutStartSec = "60s";
    TimeoutStopSec = "20s";
    # Only the agent is asked to end; what it runs (fetches, probes, hooks) is its
    # own to end, and killed with it when it does not. Jobs are units of their own.
    KillMode = "mixed";
    # A fetch that takes too much memory is ended first, and alone: not the agent
    # with it.
    OOMPolicy = "continue";

    # The agent's own, read by nobody else.
    StateDirectoryMode = "0700";
    RuntimeDirectoryMode = "0700";
    # The agent and the guardian of a deployment meet here, whatever is configured;
    # module.nix adds `run_dir`. Both stay while the agent is restarted or gone.
    RuntimeDirectory = [ "fort-agent-handover" ];
    RuntimeDirectoryPreserve = true;
    # For health commands and hooks, which else have no place to write to. The
    # agent's own cache is below its state.
    CacheDirectory = "fort-agent";
    CacheDirectoryMode = "0700";
    UMask = "0077";
    # There are tokens in its memory, and the watchdog ends it with SIGABRT.
    LimitCORE = 0;

    # It is root, since only root may ask systemd for units and Nix's daemon to
    # be trusted; but a root without what makes one mighty:
    CapabilityBoundingSet = [
      # Loosened: tokens and keys are 0600 and belong to somebody else (a person,
      # another service), and are read again at each use, since they are rotated
      # and may come later. LoadCredential= would read them once, at the start,
      # and not start at all without them.
      "CAP_DAC_READ_SEARCH"
      # Loosened: bootctl takes back which system boots once; the kernel guards
      # that EFI variable with the immutable flag.
      "CAP_LINUX_IMMUTABLE"
    ];
    NoNewPrivileges = true;
    ProtectSystem = "strict";
    # Loosened: that EFI variable. Absent without EFI.
    ReadWritePaths = [ "-/sys/firmware/efi/efivars" ];
    ProtectHome = true;
    PrivateTmp = true;
    # Loosened from PrivateDevices=: bootctl looks at the disk below /boot before
    # it does anything. It may only read.
    DevicePolicy = "closed";
    DeviceAllow = [ "block-* r" ];
    PrivateIPC = true;
    KeyringMode = "private";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    # Loosened: ProcSubset= stays "all". Which boot this is stands in
    # /proc/sys/kernel/random/boot_id.
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    PrivateMounts = true;
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    # Loosened: forges, caches and the page are on the network, whose addresses
    # are not known here, so there is no PrivateNetwork= and no IPAddressDeny=.
    # Names are looked up over netlink.
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
    ];
    SystemCallArchitectures = "native";
    # What is refused answers EPERM: a hook that tries it fails, and is not killed.
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    # Loosened: no PrivateUsers= (systemd and Nix would not see root), no
    # RootDirectory= (it reads the host that it looks after), no User=.
  };
}
