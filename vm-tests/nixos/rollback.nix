# Hazard: a system whose unit fails stays, or becomes the one that boots.
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
  name = "rollback";
  nodes.joker = {
    imports = [ config.base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = [ nodes.broken.system.build.toplevel ];
  };
  nodes.broken = {
    imports = [ config.base ];
    systemd.services.broken = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "/run/current-system/sw/bin/false";
      };
    };
  };
  script = ''
    create()
    before, boot = running(), boots()
    commit = push("${system "broken"}")
    assert verdict(commit) == "rolled-back"
    assert running() == before
    assert boots() == boot
    assert joker.succeed("systemctl list-units --failed --plain --no-legend").strip() == ""
  '';
}
