# Hazard: the unit is not what the module says, or does not run as it is shut in.
{
  config,
  nodes,
  lib,
  ...
}:
let
  system = node: "${nodes.${node}.system.build.toplevel}";
in
{
  name = "defaults";
  nodes.joker = {
    imports = [ config.base ];
  };
  script = ''
    create()
    joker.wait_for_unit("fort-agent.service")
    joker.wait_for_unit("fort-agent-revive.timer")
    joker.succeed("systemd-analyze security --threshold=20 fort-agent.service")
    joker.succeed("fort-agent check-config")
    joker.succeed("test $(stat -c %a /var/lib/fort-agent) = 700")
    # Who evaluates commits, and is let in by Nix's daemon.
    joker.succeed("runuser -u fort-agent-eval -- nix --extra-experimental-features nix-command store ping --store daemon")
    joker.succeed("fort-agent status --json | grep -qv unconfined")
    # Whoever stopped it: it comes back.
    joker.systemctl("stop fort-agent.service")
    joker.wait_until_succeeds("systemctl is-active fort-agent.service", timeout=90)
  '';
}
