# Hazard: a commit that does not become the running system, or does not boot.
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
  name = "deploy";
  nodes.joker = {
    imports = [ config.base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = [ nodes.two.system.build.toplevel ];
  };
  nodes.two = {
    imports = [ config.base ];
    environment.etc.version.text = "two";
  };
  script = ''
    create()
    commit = push("${system "two"}")
    assert verdict(commit) == "good"
    assert running() == boots() == "${system "two"}"
    assert joker.succeed("cat /etc/version").strip() == "two"
  '';
}
