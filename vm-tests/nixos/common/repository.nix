# One host, `joker`, that follows a repository on its own disk. The systems that
# are pushed there were built with the test, as nodes that are never started:
# inside of it there is no network to get nixpkgs from.
{ lib, config, ... }:
{
  options.base = lib.mkOption {
    type = lib.types.deferredModule;
    description = "What every system of the host has.";
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
        environment.systemPackages = [ pkgs.gitMinimal ];
        services.fort-agent = {
          enable = true;
          settings = {
            remote = [
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

      git = "git -c user.name=test -c user.email=test@example.org -C /root/infra"

      def create():
          joker.wait_for_unit("multi-user.target")
          joker.succeed(
              "git init -q --bare /var/lib/infra.git",
              "git init -q /root/infra",
              f"{git} remote add origin /var/lib/infra.git",
          )

      def push(system, branch="release"):
          """Pushes a commit whose host is that system; returns it."""
          joker.succeed(
              "echo '{ joker = builtins.storePath \"" + system + "\"; }' > /root/infra/default.nix",
              f"{git} checkout -q -B {branch}",
              f"{git} add -A && {git} commit -q --allow-empty -m {branch}",
              f"{git} push -q origin {branch}",
          )
          return joker.succeed(f"{git} rev-parse HEAD").strip()

      def status():
          return json.loads(joker.succeed("fort-agent status --json"))

      def verdict(commit):
          """Waits until a deployment of the commit has ended, and says how."""
          joker.wait_until_succeeds(
              f"fort-agent history --json | grep -q '\"commit\": *\"{commit}\"'", timeout=180
          )
          entries = json.loads(joker.succeed("fort-agent history --json"))
          return [e["verdict"] for e in entries if e["commit"] == commit][0]

      def running():
          return joker.succeed("readlink /run/current-system").strip()

      def boots():
          return joker.succeed("readlink -f /nix/var/nix/profiles/system").strip()

      joker.start()
    ''
    + config.script;
  };
}
