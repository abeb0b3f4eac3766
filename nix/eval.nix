# Evaluates the module, the flake and the tests with a real nixpkgs tree; `nix/check`
# says what of it. `snippets` is a directory of those in the documentation.
{
  nixpkgs,
  system ? "x86_64-linux",
  snippets ? null,
}:
let
  lib = import (nixpkgs + "/lib");
  # The least that makes a system.
  machine = {
    fileSystems."/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
    };
    boot.loader.systemd-boot.enable = true;
    networking.hostName = "joker";
    system.stateVersion = lib.trivial.release;
  };
  host =
    configuration:
    import (nixpkgs + "/nixos") {
      inherit system;
      configuration.imports = [
        ../module.nix
        machine
        configuration
      ];
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
  with' = settings: agent ({ inherit remote; } // settings) { };
  plain = host (with' { });

  # Every option.
  every = import ./every.nix { inherit lib; } (
    plain.options.services.fort-agent.settings.type.getSubOptions [ ]
  );
  full = host (agent every.settings {
    services.fort-agent = {
      hostPublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJokersHostKey";
      cache.nixInclude = "/var/lib/fort/nix.conf";
      metrics.openFirewall = true;
    };
    system.configurationRevision = "1a2b3c4";
  });
  # A host that forgets its root.
  forgetful = host (agent
    {
      inherit remote;
      state_dir = "/persist/fort-agent";
      run_dir = "/persist/run";
    }
    {
      fileSystems = lib.mkForce {
        "/" = {
          device = "none";
          fsType = "tmpfs";
        };
        "/boot" = {
          device = "/dev/disk/by-label/ESP";
          fsType = "vfat";
        };
        "/nix" = {
          device = "/dev/disk/by-label/nix";
          fsType = "ext4";
        };
        "/persist" = {
          device = "/dev/disk/by-label/persist";
          fsType = "ext4";
          neededForBoot = true;
        };
      };
    }
  );
  # One that shares a cache with others.
  sharing = host (agent
    {
      inherit remote;
      cache = {
        endpoint = "https://cache.example.org/";
        name = "fort";
        token_file = "/var/lib/fort/attic-push-token";
        public_key = "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
      };
    }
    {
      services.fort-agent.cache.nixInclude = "/var/lib/fort/nix.conf";
    }
  );
  # Its state is on a root that forgets it.
  forgotten = host (agent { inherit remote; } {
    fileSystems = lib.mkForce {
      "/" = {
        device = "none";
        fsType = "tmpfs";
      };
      "/nix" = {
        device = "/dev/disk/by-label/nix";
        fsType = "ext4";
      };
    };
  });
  # What a module of a service and an operator say of it.
  managed = host (agent { inherit remote; } {
    imports = [
      {
        services.fort-agent.health.checks = {
          nginx.unit = "nginx.service";
          web = {
            http = "http://127.0.0.1:8080/healthz";
            required = true;
          };
        };
      }
    ];
    services.fort-agent = {
      managers = "deployers";
      log = "debug";
      health.checks.web.required = lib.mkForce false;
      settings.health.check = [
        {
          name = "ssh";
          tcp = "127.0.0.1:22";
        }
      ];
    };
  });
  nixConf = {
    inherit (sharing.config.nix) extraOptions;
    inherit (sharing.config.nix.settings)
      substituters
      trusted-public-keys
      connect-timeout
      fallback
      ;
  };
  unitOf = system: system.config.systemd.units."fort-agent.service".text;
  # What its unit must say, so that the agent can write there.
  lines =
    system: expected:
    lib.filter (line: !lib.elem line (lib.splitString "\n" (unitOf system))) expected;

  warnings = lib.concatMap (system: system.config.warnings) [
    plain
    full
    forgetful
    sharing
  ];
  failed = system: map (a: a.message) (lib.filter (a: !a.assertion) system.config.assertions);
  # What it is refused for, in words.
  refusals = lib.mapAttrs (_: configuration: failed (host configuration)) {
    nothing = with' { };
    noRemote = with' { remote = [ ]; };
    noNix = agent { inherit remote; } { nix.enable = false; };
    noSwitch = agent { inherit remote; } { system.switch.enable = false; };
    forge = agent { inherit remote; } { services.fort-agent.forge = true; };
    inStore = with' { remote = map (r: r // { token_file = "${../nix}/x"; }) remote; };
    atHome = with' { remote = map (r: r // { token_file = "/root/token"; }) remote; };
    stateAtHome = with' { state_dir = "/home/fort"; };
    stateOfAll = with' { state_dir = "/persist"; };
    runOfAll = with' { run_dir = "/run/user"; };
    authorityAtHome = with' { remote = map (r: r // { ca_file = "/home/me/ca.pem"; }) remote; };
    hostsInTmp = with' { remote = map (r: r // { known_hosts = "/tmp/known_hosts"; }) remote; };
    hookAtHome = with' { hooks.on_verdict = [ [ "/root/notify" ] ]; };
    commandAtHome = with' {
      health.check = [
        {
          name = "mine";
          command = [ "/home/me/check" ];
        }
      ];
    };
    # The unit was opened by hand, and lets it in.
    opened =
      agent
        {
          hooks.on_verdict = [ [ "/root/notify" ] ];
          remote = map (r: r // { token_file = "/home/me/token"; }) remote;
        }
        {
          systemd.services.fort-agent.serviceConfig = {
            ProtectHome = lib.mkForce "tmpfs";
            BindReadOnlyPaths = [
              "-/root/notify"
              "/srv/tokens:/home/me:rbind"
            ];
          };
        };
    wide = agent { remote = map (r: r // { token_file = "/root/token"; }) remote; } {
      systemd.services.fort-agent.serviceConfig.ProtectHome = lib.mkForce false;
    };
    firewall = agent { inherit remote; } { services.fort-agent.metrics.openFirewall = true; };
  };

  accepted = [
    "nothing"
    "opened"
    "wide"
  ];

  wrongly =
    configuration:
    builtins.deepSeq (host configuration).config.services.fort-agent.settings "is accepted";

  configOf = system: system.config.environment.etc."fort-agent/config.toml".source;
  # As TOML, all tables inline. The derivation writes it with a program that would
  # have to be built; the values are those that it is given.
  toml =
    value:
    let
      inline =
        v:
        if lib.isAttrs v then
          "{ ${lib.concatStringsSep ", " (lib.mapAttrsToList (key: x: "${key} = ${inline x}") v)} }"
        else if lib.isList v then
          "[${lib.concatMapStringsSep ", " inline v}]"
        else
          builtins.toJSON v;
      table =
        v:
        lib.concatStrings (lib.mapAttrsToList (key: x: "${key} = ${inline x}\n") v);
      isTables = v: lib.isList v && v != [ ] && lib.all lib.isAttrs v;
      top = lib.filterAttrs (_: v: !lib.isAttrs v && !isTables v) value;
      tables = lib.filterAttrs (_: lib.isAttrs) value;
      arrays = lib.filterAttrs (_: isTables) value;
    in
    table top
    + lib.concatStrings (
      lib.mapAttrsToList (key: v: lib.concatMapStrings (x: "\n[[${key}]]\n${table x}") v) arrays
      ++ lib.mapAttrsToList (key: v: "\n[${key}]\n${table v}") tables
    );
  # Older trees have it as JSON.
  rendered =
    system:
    let
      inherit ((configOf system).written) value;
    in
    toml (if lib.isString value then builtins.fromJSON value else value);

  # The flake's outputs, with that tree as its only input.
  treeAsFlake =
    (import (nixpkgs + "/flake.nix")).outputs { self = treeAsFlake // { outPath = nixpkgs; }; };
  flake = (import ../flake.nix).outputs {
    nixpkgs = treeAsFlake;
    self = flake // {
      outPath = ../.;
    };
  };
  drvs = lib.mapAttrs (_: x: x.drvPath);
  perSystem = system: {
    packages = drvs flake.packages.${system};
    checks = drvs flake.checks.${system};
    devShells = drvs flake.devShells.${system};
    apps = lib.mapAttrs (_: app: app.type + " " + app.program) flake.apps.${system};
    overlay = (treeAsFlake.legacyPackages.${system}.extend flake.overlays.default).fort-agent.drvPath;
  };
in
{
  unit = unitOf plain;
  timer = plain.config.systemd.units."fort-agent-revive.timer".text;

  # The agent's file: what is given to it, and the command by which it is checked
  # when a system is built.
  config = {
    least = rendered plain;
    every = rendered full;
    # Keys that the module does not know are left to that check.
    unknown = rendered (host (with' { poll.intervall = "30s"; }));
    unbuilt = rendered (host (with' { secrets.preflight = "warn"; }));
    command = (configOf plain).buildCommand;
    agent = lib.getExe plain.config.services.fort-agent.package;
  };

  inherit nixConf;
  toplevel = lib.mapAttrs (_: system: system.config.system.build.toplevel.drvPath) {
    inherit
      plain
      full
      forgetful
      sharing
      ;
    initrdOfSystemd = host (agent { inherit remote; } { boot.initrd.systemd.enable = true; });
    initrdOfScripts = host (agent { inherit remote; } { boot.initrd.systemd.enable = false; });
  };
  image = plain.config.system.build.images.qemu.drvPath;
  inherit warnings;
  inherit refusals;
  # Wrong types, which nix/check expects to fail with the place and the option named.
  types = lib.mapAttrs (_: wrongly) {
    duration = with' { poll.interval = "soon"; };
    number = with' { retry.activations = "3"; };
    choice = with' { branch.force_push = "yes"; };
    path = with' { state_dir = "fort"; };
    list = with' { health.check = "nginx"; };
    fileInStore = with' {
      remote = map (r: r // { token_file = ./eval.nix; }) remote;
    };
  };
  # What is not as it should be, by name.
  wrong =
    lib.attrNames (lib.filterAttrs (name: said: (said == [ ]) != lib.elem name accepted) refusals)
    ++ map (key: "nix/every.nix lacks ${key}") every.missing
    ++ lines plain [
      "StateDirectory=fort-agent"
      "RuntimeDirectory=fort-agent"
    ]
    ++ lines forgetful [
      "RequiresMountsFor=/persist/fort-agent"
      "RequiresMountsFor=/persist/run"
      "ReadWritePaths=/persist/fort-agent"
      "ReadWritePaths=/persist/run"
    ]
    ++
      lines (host (with' {
        state_dir = "/var/lib/deep/fort";
        run_dir = "/run/deep/fort";
      }))
        [
          "StateDirectory=deep/fort"
          "RuntimeDirectory=deep/fort"
        ]
    ++ warnings
    ++ lib.optional (
      nixConf.substituters != [
        "https://cache.example.org/fort"
        "https://cache.nixos.org/"
      ]
      || !lib.elem "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" nixConf.trusted-public-keys
      || nixConf.connect-timeout != 5
      || !nixConf.fallback
      || nixConf.extraOptions != "!include /var/lib/fort/nix.conf\n"
    ) "nixConf"
    ++ lib.optional (
      lib.attrNames forgetful.config.systemd.tmpfiles.settings.fort-agent != [
        "/persist/fort-agent"
        "/persist/run"
        "/run/nixos/switch-to-configuration.lock"
      ]
      ||
        forgetful.config.systemd.tmpfiles.settings.fort-agent."/run/nixos/switch-to-configuration.lock".f.mode
        != "0600"
    ) "tmpfiles"
    ++ lib.optional (lib.length forgotten.config.warnings != 1) "forgotten"
    ++ lines managed [ "Environment=\"FORT_AGENT_LOG=debug\"" ]
    ++ lib.optional (!lib.hasInfix ''isInGroup("deployers")'' managed.config.security.polkit.extraConfig) "managers"
    ++ lib.optional (
      lib.sort (a: b: a.name < b.name) (
        map (lib.filterAttrs (_: value: value != null)) managed.config.services.fort-agent.settings.health.check
      ) != [
        {
          name = "nginx";
          unit = "nginx.service";
        }
        {
          name = "ssh";
          tcp = "127.0.0.1:22";
        }
        {
          name = "web";
          http = "http://127.0.0.1:8080/healthz";
          required = false;
        }
      ]
    ) "health.checks";

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

  # What `nix flake check --no-build` looks at.
  flakeHere = perSystem "x86_64-linux";
  flakeElsewhere = perSystem "aarch64-linux";
  # Written in Haskell, whose packages a reduced tree may lack.
  formatter = lib.mapAttrs (_: formatter: formatter.drvPath) flake.formatter;
  # What each test of a NixOS machine runs, in Python.
  vmScripts = lib.mapAttrs (_: test: test.driver.testScript) (
    removeAttrs flake.checks.x86_64-linux [ "package" ]
  );

  # What the documentation shows, as it stands: a flake, or a module.
  snippets = lib.mapAttrs (
    name: _:
    let
      snippet = import (snippets + "/${name}/snippet.nix");
    in
    if snippet ? outputs then
      lib.mapAttrs (_: system: system.config.system.build.toplevel.drvPath)
        (snippet.outputs {
          nixpkgs = treeAsFlake;
          fort-agent = flake;
        }).nixosConfigurations
    else
      (host {
        imports = [ snippet ];
        # Of comin, as far as the page about leaving it goes.
        options.services.comin.enable = lib.mkEnableOption "comin";
      }).config.system.build.toplevel.drvPath
  ) (lib.optionalAttrs (snippets != null) (builtins.readDir snippets));
}
