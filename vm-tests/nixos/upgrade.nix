# Hazard: a deployment that replaces the agent loses itself.
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
  name = "upgrade";
  nodes.joker = {
    imports = [ config.base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = [ nodes.newer.system.build.toplevel ];
  };
  nodes.newer =
    { pkgs, ... }:
    {
      imports = [ config.base ];
      # Another store path, the same program.
      services.fort-agent.package = lib.mkForce (
        (pkgs.callPackage ../../package.nix { }).overrideAttrs { postFixup = "touch $out/newer"; }
      );
    };
  script = ''
    create()
    agent = joker.succeed("systemctl show -p MainPID --value fort-agent").strip()
    commit = push("${system "newer"}")
    assert verdict(commit) == "good"
    assert joker.succeed("systemctl show -p MainPID --value fort-agent").strip() != agent
    joker.succeed("test -e $(dirname $(dirname $(readlink -f $(which fort-agent))))/newer")
    assert boots() == "${system "newer"}"
  '';
}
