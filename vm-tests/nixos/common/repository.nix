# One host, `joker`, that follows a repository on its own disk. The systems that
# are pushed there were built with the test, as nodes that are never started:
# inside of it there is no network to get nixpkgs from.
{ lib, config, ... }:
{
  options.base = lib.mkOption {
    type = lib.types.deferredModule;
    description = "What every system of the host has.";
  };

  options.repositoryOn = lib.mkOption {
    type = lib.types.str;
    default = "joker";
    description = "The machine that has the repository.";
  };

  options.script = lib.mkOption {
    type = lib.types.lines;
    description = "The test, after what all of them need.";
  };

  config = {
    base =
      { pkgs, ... }:
      {
        imports = [ ../../../module.nix ];
        networking.hostName = "joker";
        # Machines of tests cannot be switched unless they say so.
        system.switch.enable = true;
        environment.systemPackages = [
          pkgs.gitMinimal
          pkgs.jq
        ];
        # There is no network: nobody is to wait for its caches.
        nix.settings.substituters = lib.mkForce [ ];
        # QEMU boots it: there is no disk on which GRUB would find a place. Where the
        # boot loader matters, there is ./boot-loader.nix.
        boot.loader.grub.enable = false;
        virtualisation.memorySize = 2048;
        services.fort-agent = {
          enable = true;
          settings = {
            remote = lib.mkDefault [
              {
                name = "origin";
                url = "file:///var/lib/infra.git";
              }
            ];
            poll = {
              interval = "1s";
              jitter = "0s";
            };
            system = {
              kind = "file";
              attribute = "{hostname}";
            };
            health.grace = "1s";
            retry.first = "5s";
          };
        };
      };

    testScript = ''
      import json
      import shlex

      git = "git -c user.name=test -c user.email=test@example.org -C /root/infra"
      repository = ${config.repositoryOn}

      def create():
          repository.wait_for_unit("multi-user.target")
          repository.succeed(
              "git init -q --bare /var/lib/infra.git",
              "git init -q /root/infra",
              f"{git} remote add origin /var/lib/infra.git",
          )

      def commit_nix(expression, branch="release"):
          """Pushes a commit with that as its default.nix; returns it."""
          repository.succeed(
              f"printf %s {shlex.quote(expression)} > /root/infra/default.nix",
              f"{git} checkout -q -B {branch}",
              f"{git} add -A && {git} commit -q --allow-empty -m {branch}",
              f"{git} push -q origin {branch}",
              # Git does not wait for the disk, and power is cut here.
              "sync",
          )
          return repository.succeed(f"{git} rev-parse HEAD").strip()

      def push(system, branch="release"):
          """Pushes a commit whose host is that system; returns it."""
          return commit_nix("{ joker = builtins.storePath \"" + system + "\"; }", branch)

      def status(host=joker):
          return json.loads(host.succeed("fort-agent status --json"))

      def wait_status(host, query):
          """Waits until jq says that this is so."""
          asked = f"fort-agent status --json | jq -e {shlex.quote(query)}"
          host.wait_until_succeeds(asked, timeout=300)

      def verdicts(commit, host=joker):
          """How deployments of the commit ended, the newest first."""
          entries = json.loads(host.succeed("fort-agent history --json"))
          return [e["verdict"] for e in entries if e["commit"] == commit]

      def verdict(commit, host=joker):
          """Waits until a deployment of the commit has ended, and says how."""
          query = f'any(.[]; .commit == "{commit}")'
          host.wait_until_succeeds(
              f"fort-agent history --json | jq -e {shlex.quote(query)}", timeout=300
          )
          return verdicts(commit, host)[0]

      def running(host=joker):
          return host.succeed("readlink /run/current-system").strip()

      def booted(host=joker):
          return host.succeed("readlink /run/booted-system").strip()

      def boots(host=joker):
          return host.succeed("readlink -f /nix/var/nix/profiles/system").strip()

      repository.start()
    ''
    + config.script;
  };
}
