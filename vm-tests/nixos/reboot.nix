# Hazard: a changed kernel is activated under the old one, or becomes the default
# before it has booted.
{
  config,
  nodes,
  lib,
  ...
}:
let
  system = node: "${nodes.${node}.system.build.toplevel}";
  base = {
    imports = [
      config.base
      ./common/boot-loader.nix
    ];
    services.fort-agent.settings.activation.on_kernel_change = "boot";
  };
in
{
  name = "reboot";
  nodes.joker = {
    imports = [ base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = [ (system "newer") ];
  };
  nodes.newer = {
    imports = [ base ];
    boot.kernelParams = [ "fort.newer=1" ];
  };
  script = ''
    create()
    before = running()
    release = push(before)
    wait_status(joker, f'.running.commit == "{release}"')

    commit = push("${system "newer"}")
    wait_status(joker, f'.state == "reboot-required" and .desired.commit == "{commit}"')
    assert running() == before
    # systemd-boot boots it once; nothing but a good verdict makes it the default.
    assert boots() == before
    assert "fort.newer=1" not in joker.succeed("cat /proc/cmdline")

    joker.shutdown()
    joker.start()
    assert verdict(commit) == "good"
    assert "fort.newer=1" in joker.succeed("cat /proc/cmdline")
    assert booted() == running() == boots() == "${system "newer"}"
    wait_status(joker, '.state == "up-to-date" and .boot.reboot_required == false')
    # And it stays.
    joker.shutdown()
    joker.start()
    wait_status(joker, f'.state == "up-to-date" and .running.commit == "{commit}"')
    assert booted() == "${system "newer"}"
  '';
}
