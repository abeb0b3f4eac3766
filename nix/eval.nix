# Evaluates the module with a real nixpkgs tree; `nix/check` says what of it.
{
  nixpkgs,
  system ? "x86_64-linux",
}:
let
  lib = import (nixpkgs + "/lib");
  host =
    configuration:
    import (nixpkgs + "/nixos") {
      inherit system;
      configuration = {
        imports = [
          ../module.nix
          configuration
        ];
        # The least that makes a system.
        fileSystems."/" = {
          device = "/dev/disk/by-label/nixos";
          fsType = "ext4";
        };
        boot.loader.systemd-boot.enable = true;
        networking.hostName = "joker";
        system.stateVersion = lib.trivial.release;
      };
    };
  agent = settings: more: {
    imports = [ more ];
    services.fort-agent = {
      enable = true;
      inherit settings;
    };
  };
  remote = [
    {
      name = "origin";
      url = "https://git.example.org/infra/nixos.git";
      token_file = "/var/lib/fort-git/deploy-token";
    }
  ];
  plain = host (agent { inherit remote; } { });
  # Every option, at its example.
  full = host (agent (lib.recursiveUpdate { inherit remote; } (examples plain)) {
    services.fort-agent = {
      hostPublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJokersHostKey";
      cache.nixInclude = "/var/lib/fort/nix.conf";
      metrics.openFirewall = true;
    };
  });

  settingsOptions =
    system:
    (lib.filterAttrs (_: o: lib.isOption o)) (
      system.options.services.fort-agent.settings.type.getSubOptions [ ]
    );
  # Sections at the examples of their keys.
  examples =
    system:
    let
      value =
        option:
        let
          sub = lib.filterAttrs (_: lib.isOption) (option.type.getSubOptions [ ]);
        in
        if option.example ? _type then
          null
        else if lib.elem option.type.name [ "submodule" ] then
          lib.mapAttrs (_: value) sub
        else
          option.example;
    in
    lib.filterAttrs (_: v: v != null) (lib.mapAttrs (_: value) (settingsOptions system));

  failed = system: map (a: a.message) (lib.filter (a: !a.assertion) system.config.assertions);
  # What it is refused for, in words.
  refused = configuration: failed (host configuration);
  # Whether it has a wrong type.
  broken =
    configuration:
    !(builtins.tryEval (builtins.deepSeq (host configuration).config.services.fort-agent.settings true))
    .success;
  refusals = lib.mapAttrs (_: refused) {
    nothing = agent { inherit remote; } { };
    noRemote = agent { } { };
    noSwitch = agent { inherit remote; } { system.switch.enable = false; };
    forge = agent { inherit remote; } { services.fort-agent.forge = true; };
    inStore = agent { remote = map (r: r // { token_file = "${../nix}/x"; }) remote; } { };
    atHome = agent { remote = map (r: r // { token_file = "/root/token"; }) remote; } { };
    firewall = agent { inherit remote; } { services.fort-agent.metrics.openFirewall = true; };
  };
  breaks = lib.mapAttrs (_: configuration: broken configuration) {
    nothing = agent { inherit remote; } { };
    duration = agent {
      inherit remote;
      poll.interval = "soon";
    } { };
    number = agent {
      inherit remote;
      retry.activations = "3";
    } { };
    choice = agent {
      inherit remote;
      branch.force_push = "yes";
    } { };
    path = agent { remote = map (r: r // { token_file = ./eval.nix; }) remote; } { };
  };
  vmTests = import ../vm-tests/nixos { inherit (plain) pkgs; };
in
{
  unit = plain.config.systemd.units."fort-agent.service".text;
  timer = plain.config.systemd.units."fort-agent-revive.timer".text;
  moved =
    (host (agent {
      inherit remote;
      state_dir = "/persist/fort-agent";
    } { })).config.systemd.units."fort-agent.service".text;

  nixConf = full.config.nix.settings;
  toplevel = {
    plain = plain.config.system.build.toplevel.drvPath;
    full = full.config.system.build.toplevel.drvPath;
    initrdOfSystemd =
      (host (agent { inherit remote; } { boot.initrd.systemd.enable = true; }))
      .config.system.build.toplevel.drvPath;
    initrdOfScripts =
      (host (agent { inherit remote; } { boot.initrd.systemd.enable = false; }))
      .config.system.build.toplevel.drvPath;
  };
  warnings = plain.config.warnings ++ full.config.warnings;
  inherit refusals breaks;
  # What is not as it should be, by name.
  wrong =
    lib.attrNames (lib.filterAttrs (name: said: (said == [ ]) != (name == "nothing")) refusals)
    ++ lib.attrNames (lib.filterAttrs (name: broke: broke == (name == "nothing")) breaks)
    ++ lib.optional (plain.config.warnings ++ full.config.warnings != [ ]) "warnings";

  # docs/options.md.
  pages =
    let
      shown = value: if value ? text then value.text else lib.generators.toPretty { } value;
      entry = option: ''
        ### `${option.name}`

        ${lib.removeSuffix "\n" option.description}

        - Type: ${option.type}
        ${lib.optionalString (option ? default) "- Default: `${oneLine (shown option.default)}`"}
        ${lib.optionalString (option ? example) "- Example: `${oneLine (shown option.example)}`"}
      '';
      oneLine =
        text: lib.concatStringsSep " " (lib.filter (w: w != "") (lib.splitString " " (lib.replaceStrings [ "\n" ] [ " " ] text)));
      ours = lib.filter (o: o.visible && !o.internal && lib.hasPrefix "services.fort-agent." o.name) (
        lib.optionAttrSetToDocList { inherit (plain.options.services) fort-agent; }
      );
    in
    "# Options of services.fort-agent\n\nGenerated from module.nix by nix/check.\n\n"
    + lib.concatMapStringsSep "\n" entry ours;

  # Each test of a NixOS machine, as a derivation; and what it runs, in Python.
  vmTests = lib.mapAttrs (_: test: test.drvPath) vmTests;
  vmScripts = lib.mapAttrs (_: test: test.driver.testScript) vmTests;
}
