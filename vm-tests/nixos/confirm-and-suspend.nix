# Hazard: what waits for a person goes ahead without one.
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
  name = "confirm-and-suspend";
  nodes.joker = {
    imports = [ config.base ];
    services.fort-agent.settings.activation.confirm = "manual";
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
    commit = push("${system "two"}")
    wait_status(joker, f'.state == "waiting" and .desired.commit == "{commit}"')
    assert running() == before
    joker.succeed("fort-agent suspend --reason test")
    joker.succeed(f"fort-agent confirm {commit}")
    assert status()["suspended"]["reason"] == "test"
    assert running() == before
    joker.succeed("fort-agent resume")
    assert verdict(commit) == "good"
    assert running() == "${system "two"}"
  '';
}
