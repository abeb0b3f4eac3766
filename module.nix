# fort-agent on NixOS. Renders `settings` to one TOML file, which the agent itself
# checks when it is built, and runs the agent. All logic is in the agent.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.fort-agent;
  format = pkgs.formats.toml { };

  # TOML has no null: what is not set is left out.
  set =
    value:
    if builtins.isList value then
      map set value
    else if builtins.isAttrs value && !lib.isDerivation value then
      lib.mapAttrs (_: set) (lib.filterAttrs (_: v: v != null) value)
    else
      value;
  written = format.generate "fort-agent.toml" (set cfg.settings);
  configFile =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "fort-agent-config.toml" { inherit written; } ''
        ${lib.getExe cfg.package} --config $written check-config
        cp $written $out
      ''
    else
      # Nobody here can run the agent: it says on the host what is wrong.
      written;

  cache = cfg.settings.cache;
  substitutes = cache != null && cache.substitute != false;

  # Files that the agent reads or runs, by the option that names them.
  secretFiles = named (
    remoteFiles [
      "token_file"
      "ssh_key_file"
    ]
    ++ lib.optional (cache != null) (lib.nameValuePair "cache.token_file" cache.token_file)
    ++ lib.optional (report != null) (lib.nameValuePair "report.token_file" report.token_file)
  );
  otherFiles = named (
    remoteFiles [
      "ca_file"
      "known_hosts"
    ]
    ++ lib.optional (report != null) (lib.nameValuePair "report.ca_file" report.ca_file)
    ++ lib.imap0 (
      i: command: lib.nameValuePair "hooks.on_verdict.${toString i}" (lib.head command)
    ) (orNone cfg.settings.hooks.on_verdict)
    ++ lib.imap0 (
      i: check: lib.nameValuePair "health.check.${toString i}.command" (lib.head (orNone check.command ++ [ null ]))
    ) cfg.settings.health.check
  );
  remoteFiles =
    keys:
    lib.concatLists (
      lib.imap0 (
        i: remote: map (key: lib.nameValuePair "remote.${toString i}.${key}" remote.${key}) keys
      ) cfg.settings.remote
    );
  inherit (cfg.settings) report;
  orNone = list: if list == null then [ ] else list;
  named = lib.filter (file: file.value != null);
  below = directory: lib.filter (file: lib.hasPrefix "${directory}/" file.value);
  names = lib.concatMapStringsSep ", " (file: "`settings.${file.name}`");

  listen = cfg.settings.metrics.listen;
  port = lib.toInt (lib.last (lib.splitString ":" listen));

  # Where the agent writes. systemd makes what is where it makes such things, at
  # each start; elsewhere that is left to tmpfiles, and the unit is let in.
  inherit (cfg.settings) state_dir run_dir;
  systemdMakes = parent: path: lib.hasPrefix "${parent}/" path;
  elsewhere =
    lib.optional (!systemdMakes "/var/lib" state_dir) state_dir
    ++ lib.optional (!systemdMakes "/run" run_dir) run_dir;
  directories = [
    (lib.nameValuePair "state_dir" state_dir)
    (lib.nameValuePair "run_dir" run_dir)
  ];
  # Closed to all others, and so not what others have files in.
  isShared =
    directory:
    lib.length (lib.filter (part: part != "") (lib.splitString "/" directory.value)) < 2
    || lib.elem directory.value [
      "/nix/store"
      "/nix/var"
      "/run/systemd"
      "/run/user"
      "/var/cache"
      "/var/lib"
      "/var/log"
      "/var/tmp"
    ];

  # Whether a boot takes it away: nothing that keeps it is mounted above it.
  isAbove = place: state_dir == place || lib.hasPrefix "${lib.removeSuffix "/" place}/" state_dir;
  keeps = fs: !lib.elem fs.fsType [ "tmpfs" "ramfs" ];
  above = lib.filter (fs: isAbove fs.mountPoint) (lib.attrValues config.fileSystems);
  forgets =
    above != [ ]
    && !keeps (lib.last (lib.sort (a: b: lib.stringLength a.mountPoint < lib.stringLength b.mountPoint) above))
    && !lib.any (mount: isAbove mount.where) config.systemd.mounts;

  # What the unit does not see; unless somebody has opened it.
  unit = config.systemd.services.fort-agent.serviceConfig;
  isSet = key: lib.elem (toString (unit.${key} or false)) [ "1" "yes" "true" "on" "tmpfs" "disconnected" ];
  hidden =
    lib.optionals (isSet "ProtectHome") [
      "/home"
      "/root"
      "/run/user"
    ]
    ++ lib.optionals (isSet "PrivateTmp") [
      "/tmp"
      "/var/tmp"
    ];
  # `-SOURCE:PLACE:FLAGS`, of which only the source must be there.
  placeOf =
    bind:
    let
      parts = lib.splitString ":" (lib.removePrefix "-" bind);
    in
    if lib.length parts > 1 then lib.elemAt parts 1 else lib.head parts;
  opened = map placeOf (
    lib.concatMap (key: lib.concatMap (lib.splitString " ") (lib.toList (unit.${key} or [ ]))) [
      "BindPaths"
      "BindReadOnlyPaths"
    ]
  );
  isUnseen =
    file:
    let
      isBelow = directory: file.value == directory || lib.hasPrefix "${directory}/" file.value;
    in
    lib.any isBelow hidden && !lib.any isBelow opened;
  unseen = lib.filter isUnseen (secretFiles ++ otherFiles ++ directories);
in
{
  options.services.fort-agent = {
    enable = lib.mkEnableOption "fort-agent, which keeps this host at what a git branch says";

    # Of this checkout, where the overlay is not used.
    package =
      lib.mkPackageOption ({ fort-agent = pkgs.callPackage ./package.nix { }; } // pkgs) "fort-agent"
        {
          example = "inputs.fort-agent.packages.\${pkgs.system}.default";
          extraDescription = "Without the overlay: that of this checkout.";
        };

    settings = mkOption {
      type = types.submodule (import ./nix/settings.nix { inherit lib format; });
      default = { };
      example = lib.literalExpression ''
        {
          remote = [
            {
              name = "origin";
              url = "https://git.example.org/infra/nixos.git";
              token_file = "/var/lib/fort-git/deploy-token";
            }
          ];
          health.check = [ { name = "nginx"; unit = "nginx.service"; } ];
        }
      '';
      description = ''
        The agent's configuration, as in config.example.toml. It is checked by
        `fort-agent check-config` when the system is built: a key that does not
        exist, or is not supported yet, is an error.
      '';
    };

    health.checks = mkOption {
      type = types.attrsOf (types.attrsOf format.type);
      default = { };
      example = lib.literalExpression ''
        {
          nginx.unit = "nginx.service";
          web = {
            http = "http://127.0.0.1:8080/healthz";
            required = false;
          };
        }
      '';
      description = ''
        Checks by their names, each with the keys of `settings.health.check`: added to
        those. For modules of services, which can say here how they are known to work
        whether or not the agent is enabled; and one host can override a key of one
        with `lib.mkForce`.
      '';
    };

    managers = mkOption {
      type = types.nullOr (types.strMatching "[A-Za-z_][A-Za-z0-9_-]*");
      default = null;
      example = "deployers";
      description = ''
        A group whose members may manage the agent without being root and without a
        password: poll, confirm, accept, suspend, roll back. Who accepts a commit
        decides what runs as root. It becomes a rule of polkit's, which is enabled.
      '';
    };

    log = mkOption {
      type = types.nullOr types.str;
      default = null;
      defaultText = lib.literalExpression "null # the agent's: info";
      example = "debug";
      description = ''
        What is logged: `error`, `warn`, `info`, `debug` or `trace`, also by module as
        in `info,fort_agent::git=debug`. No level shows a secret.
      '';
    };

    hostPublicKey = mkOption {
      type = types.nullOr (types.strMatching "ssh-(ed25519|rsa) [A-Za-z0-9+/=]+.*");
      default = null;
      example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJokersHostKey";
      description = ''
        This host's public key, for whoever encrypts secrets to it. The agent does
        not read it.
      '';
    };

    forge = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether this is the host that serves the repository or the cache. The agent
        is refused there.
      '';
    };

    cache.nixSettings = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether `settings.cache` is also given to this host's own Nix: as a
        substituter with its keys, for people who build there. A cache that is away
        then costs five seconds, and what it lacks is built.
      '';
    };

    cache.nixInclude = mkOption {
      type = types.nullOr (types.strMatching "/.*");
      default = null;
      example = "/var/lib/fort/nix.conf";
      description = ''
        A file that nix.conf includes if it is there, for what arrives later than
        the system, such as `extra-trusted-public-keys` or `netrc-file`.
      '';
    };

    metrics.openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the port of `settings.metrics.listen` is opened, on all interfaces.
        What answers there asks nobody for a password.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.settings.remote != [ ];
        message = "services.fort-agent.settings.remote is empty: the agent needs at least one remote with `name` and `url`.";
      }
      {
        assertion = config.system.switch.enable;
        message = "services.fort-agent needs system.switch.enable: it activates systems by their bin/switch-to-configuration.";
      }
      {
        assertion = !cfg.forge;
        message = "services.fort-agent does not run on the forge (services.fort-agent.forge): a bad deployment there would take away what is needed to mend it. Deploy the forge by hand.";
      }
      {
        assertion = config.nix.enable;
        message = "services.fort-agent needs nix.enable: without Nix on this host the agent could get no other system any more.";
      }
      {
        assertion = below builtins.storeDir secretFiles == [ ];
        message = "services.fort-agent: ${names (below builtins.storeDir secretFiles)} is in the Nix store, where everybody can read it. Name a file outside as a string, and put the secret there by other means.";
      }
      {
        assertion = unseen == [ ];
        message = "services.fort-agent: ${names unseen} is where the agent's unit does not see it (ProtectHome, PrivateTmp). Put it elsewhere, or let the unit in by BindReadOnlyPaths.";
      }
      {
        assertion = !lib.any isShared directories;
        message = "services.fort-agent: ${names (lib.filter isShared directories)} is not the agent's own: it would be closed to everybody else (mode 0700). Name a directory below it, such as /persist/fort-agent.";
      }
      {
        assertion = cfg.metrics.openFirewall -> listen != null;
        message = "services.fort-agent.metrics.openFirewall needs settings.metrics.listen.";
      }
    ];
    warnings =
      lib.optional forgets "services.fort-agent.settings.state_dir is ${state_dir}, on a root file system that forgets it with each boot: the agent then takes what runs for its first system, and accepts any head as its first. Persist it, or name a directory that is persisted."
      ++ lib.optional config.system.autoUpgrade.enable "services.fort-agent and system.autoUpgrade are both enabled: each undoes what the other has deployed."
      ++ lib.optional (config.services.comin.enable or false) "services.fort-agent and services.comin are both enabled: see docs/leaving-comin.md for a day of both without two switches at once."
      ++
        lib.optional (cfg.hostPublicKey == null && config ? age && config.age.secrets or { } != { })
          "services.fort-agent.hostPublicKey is not set: whoever encrypts secrets to this host needs it.";

    services.fort-agent.settings.health.check = lib.mapAttrsToList (
      name: check: { inherit name; } // check
    ) cfg.health.checks;
    services.fort-agent.settings.hostname = lib.mkIf (config.networking.hostName != "") (
      lib.mkDefault config.networking.hostName
    );

    environment.systemPackages = [ cfg.package ];
    environment.etc."fort-agent/config.toml".source = configFile;
    # So that `status` can say what a system is of that somebody switched to by hand.
    environment.etc."fort-agent/revision" = lib.mkIf (config.system.configurationRevision != null) {
      text = "${config.system.configurationRevision}\n";
    };
    services.dbus.packages = [ cfg.package ];
    security.polkit = lib.mkIf (cfg.managers != null) {
      enable = true;
      extraConfig = ''
        polkit.addRule(function(action, subject) {
          if (action.id == "network.gisi.fort.agent1.manage" &&
              subject.isInGroup("${cfg.managers}")) return polkit.Result.YES;
        });
      '';
    };

    # Who evaluates commits: it can open nothing that not everybody can, and is a
    # client of Nix's daemon as any other user. Where `allowed-users` lists some,
    # it is one more of them; where it lets everybody in, this adds nothing.
    users.users.fort-agent-eval = {
      isSystemUser = true;
      group = "fort-agent-eval";
      description = "Evaluates commits for fort-agent";
    };
    users.groups.fort-agent-eval = { };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.metrics.openFirewall [ port ];

    nix.settings = lib.mkMerge [
      { extra-allowed-users = [ "fort-agent-eval" ]; }
      (lib.mkIf (substitutes && cfg.cache.nixSettings) {
        substituters = [ "${lib.removeSuffix "/" cache.endpoint}/${cache.name}" ];
        trusted-public-keys = lib.mkIf (cache.public_key != null) (lib.toList cache.public_key);
        connect-timeout = lib.mkDefault 5;
        fallback = lib.mkDefault true;
      })
    ];
    nix.extraOptions = lib.mkIf (cfg.cache.nixInclude != null) ''
      !include ${cfg.cache.nixInclude}
    '';

    systemd.services.fort-agent = lib.mkMerge [
      (import ./nix/unit.nix)
      {
        restartTriggers = [ configFile ];
        path = [
          config.nix.package
          config.programs.ssh.package
          pkgs.gitMinimal
        ];
        environment = config.networking.proxy.envVars // {
          SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
          NIX_SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
          FORT_AGENT_LOG = lib.mkIf (cfg.log != null) cfg.log;
        };
        serviceConfig.ExecStart = "${lib.getExe cfg.package} run";
      }
      (lib.mkIf (systemdMakes "/var/lib" state_dir) {
        serviceConfig.StateDirectory = [ (lib.removePrefix "/var/lib/" state_dir) ];
      })
      (lib.mkIf (systemdMakes "/run" run_dir) {
        serviceConfig.RuntimeDirectory = [ (lib.removePrefix "/run/" run_dir) ];
      })
      (lib.mkIf (elsewhere != [ ]) {
        unitConfig.RequiresMountsFor = elsewhere;
        serviceConfig.ReadWritePaths = elsewhere;
      })
    ];
    systemd.tmpfiles.settings.fort-agent =
      lib.genAttrs elsewhere (_: {
        d.mode = "0700";
      })
      // {
        # switch-to-configuration makes it readable by everybody, and whoever can read it
        # can lock it.
        "/run/nixos/switch-to-configuration.lock".f = {
          mode = "0600";
          user = "root";
          group = "root";
        };
      };
    systemd.timers.fort-agent-revive = import ./nix/revive.nix;
  };
}
