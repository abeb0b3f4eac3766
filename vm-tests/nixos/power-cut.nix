# Hazard: the power fails in the middle of a deployment, and what boots is neither
# the last good system nor the wanted one; or the host never gets any further.
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
  ];
in
{
  name = "power-cut";
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
    # Once, so that the first cut always meets it in the middle.
    system.activationScripts.held.text = ''
      if [ ! -e /var/lib/held ]; then
        touch /var/lib/held
        sync
        sleep 600
      fi
    '';
  };
  nodes.three = {
    imports = [ base ];
    environment.etc.version.text = "three";
  };
  script = ''
    def cut(moment, system, before, may_boot_it):
        """Cuts the power as soon as this holds; then the host must get there."""
        joker.wait_for_unit("fort-agent.service")
        commit = push(system)
        # In the machine, without a pause: the moments are short.
        joker.succeed(f"until {moment}; do :; done", timeout=300)
        joker.crash()
        joker.start()
        joker.wait_for_unit("multi-user.target")
        assert booted() in ([before, system] if may_boot_it else [before]), booted()
        wait_status(joker, f'.state == "up-to-date" and .running.commit == "{commit}"')
        assert running() == boots() == system
        assert verdicts(commit)[0] == "good"

    create()
    one = running()
    two, three = "${system "two"}", "${system "three"}"

    with subtest("activating: nothing has touched the boot loader"):
        cut("test -e /var/lib/held", two, one, False)
    with subtest("activated, and not found good yet"):
        cut(f"test $(readlink /run/current-system) = {three}", three, two, True)
    with subtest("the profile is set, the boot loader is being told"):
        cut(f"test $(readlink -f /nix/var/nix/profiles/system) = {two}", two, three, True)
  '';
}
