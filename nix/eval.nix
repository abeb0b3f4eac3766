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
  # What each of these is refused for, or "accepted".
  refused = configuration: failed (host configuration);
  breaks =
    configuration:
    !(builtins.tryEval (builtins.deepSeq (host configuration).config.services.fort-agent.settings true))
    .success;
in
{
  unit = plain.config.systemd.units."fort-agent.service".text;
  timer = plain.config.systemd.units."fort-agent-revive.timer".text;
  moved =
    (host (agent {
      inherit remote;
      state_dir = "/persist/fort-agent";
    } { })).config.systemd.units."fort-agent.service".text;

  settings = {
    plain = plain.config.services.fort-agent.settings;
    full = full.config.services.fort-agent.settings;
  };
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
  refusals = {
    nothing = refused (agent { inherit remote; } { });
    noRemote = refused (agent { } { });
    noSwitch = refused (agent { inherit remote; } { system.switch.enable = false; });
    forge = refused (agent { inherit remote; } { services.fort-agent.forge = true; });
    inStore = refused (agent { remote = map (r: r // { token_file = "${../nix}/x"; }) remote; } { });
    atHome = refused (agent { remote = map (r: r // { token_file = "/root/token"; }) remote; } { });
    firewall = refused (agent { inherit remote; } { services.fort-agent.metrics.openFirewall = true; });
  };
  breaks = {
    nothing = breaks (agent { inherit remote; } { });
    duration = breaks (agent { inherit remote; poll.interval = "soon"; } { });
    number = breaks (agent { inherit remote; retry.activations = "3"; } { });
    choice = breaks (agent { inherit remote; branch.force_push = "yes"; } { });
    path = breaks (agent { remote = map (r: r // { token_file = ./eval.nix; }) remote; } { });
  };
  options =
    let
      evaluated = import (nixpkgs + "/nixos/lib/make-options-doc") {
        pkgs = plain.pkgs;
        inherit lib;
        options.services.fort-agent = plain.options.services.fort-agent;
      };
    in
    evaluated.optionsNix;
}
