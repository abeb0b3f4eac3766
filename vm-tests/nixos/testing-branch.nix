# Hazard: a system that was only to be tried survives a reboot, or is tried again
# after it.
{
  config,
  nodes,
  lib,
  ...
}:
let
  system = node: "${nodes.${node}.system.build.toplevel}";
  base.imports = [
    config.base
    ./common/boot-loader.nix
    { services.fort-agent.settings.branch.testing = "release-{hostname}-test"; }
  ];
in
{
  name = "testing-branch";
  nodes.joker = {
    imports = [ base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = map system [
      "two"
      "three"
    ];
  };
  nodes.two = {
    imports = [ base ];
    environment.etc.version.text = "two";
  };
  nodes.three = {
    imports = [ base ];
    environment.etc.version.text = "three";
  };
  script = ''
    create()
    release = push("${system "two"}")
    assert verdict(release) == "good"
    tried = push("${system "three"}", "release-joker-test")
    assert verdict(tried) == "good"
    assert running() == "${system "three"}"
    assert boots() == "${system "two"}"

    joker.shutdown()
    joker.start()
    wait_status(joker, '.state == "up-to-date"')
    assert booted() == running() == boots() == "${system "two"}"
    assert status()["running"]["commit"] == release
    # It was tried once, and is not tried again until there is a newer one.
    assert verdicts(tried) == ["good"]
    again = push("${system "three"}", "release-joker-test")
    assert verdict(again) == "good"
    assert running() == "${system "three"}"
  '';
}
