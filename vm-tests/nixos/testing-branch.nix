# Hazard: a system that was only to be tried survives a reboot.
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
  name = "testing-branch";
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
    before = running()
    release = push(before)
    joker.wait_until_succeeds("fort-agent status --json | grep -q " + release)
    commit = push("${system "two"}", "release-joker-test")
    assert verdict(commit) == "good"
    assert running() == "${system "two"}"
    assert boots() != "${system "two"}"
  '';
}
