# The keys of config.toml that deserve a type; all others are taken as they are,
# and `fort-agent check-config` judges the whole file when it is built.
#
# No default is written here but in words: the agent has them, and some give way
# to each other where one is left out.
{ lib, format }:
let
  inherit (lib) mkOption types literalExpression;

  # An optional key. `default` is the agent's own, for people.
  key =
    type: default: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      defaultText = literalExpression "null # the agent's: ${default}";
      inherit example description;
    };
  # A key without which its section makes no sense.
  needed =
    type: example: description:
    mkOption { inherit type example description; };

  section =
    description: options:
    mkOption {
      type = types.submodule {
        _file = ./settings.nix;
        freeformType = format.type;
        inherit options;
      };
      default = { };
      example = { };
      inherit description;
    };
  # A section whose absence says something.
  optional =
    description: example: options:
    mkOption {
      type = types.nullOr (
        types.submodule {
          _file = ./settings.nix;
          freeformType = format.type;
          inherit options;
        }
      );
      default = null;
      inherit description example;
    };

  duration = types.strMatching "[0-9]+(ms|s|m|h|d)" // {
    description = "duration, as in \"30s\", \"5m\" or \"2h\"";
  };
  bytes = types.strMatching "[0-9]+[KMGT]?" // {
    description = "size in bytes, as in \"512M\" or \"2G\"";
  };
  # Not types.path: a Nix path would be copied to the store, for all to read.
  file = types.str // {
    description = "absolute path of a file, as a string";
  };
  windows = types.listOf types.str;
  programs = types.listOf (types.nonEmptyListOf types.str);
  none = "none";

  remote = types.submodule {
    _file = ./settings.nix;
    freeformType = format.type;
    options = {
      name = needed types.str "origin" "Its name in status, logs and metrics.";
      url =
        needed types.str "https://git.example.org/infra/nixos.git"
          "`https://` or `ssh://`; `http://` only on this very host.";
      insecure_http =
        key types.bool "false" true
          "`http://` elsewhere, without a token: whoever is on the way decides what runs.";
      username = key types.str ''"fort-agent"'' "fort-agent" "Sent with the token.";
      token_file =
        key file none "/var/lib/fort-git/deploy-token"
          "Holds the token. Read at every use; may be absent or empty for now.";
      ca_file = key file none "/etc/ssl/private-ca.pem" "Authorities to trust for this remote.";
      ssh_key_file =
        key file none "/var/lib/fort-git/deploy-key"
          "With `ssh://`: the private key, without a passphrase. May be absent for now.";
      known_hosts = key file none "/etc/fort-agent/known_hosts" "With `ssh://`: its host keys.";
      timeout = key duration ''"20s"'' "20s" "How long it may be silent.";
    };
  };

  check = types.submodule {
    _file = ./settings.nix;
    freeformType = format.type;
    options = {
      name = needed types.str "web" "Its name in status, history and metrics.";
      http = key types.str none "http://127.0.0.1:8080/healthz" "Answers with success. A redirect is not followed and fails. On loopback any program of the host may answer: add a check of the unit.";
      command = key (types.nonEmptyListOf types.str) none [
        "/run/current-system/sw/bin/test"
        "-w"
        "/var"
      ] "Exits with 0. Run without a shell, in the agent's own sandbox.";
      tcp = key types.str none "127.0.0.1:22" "Accepts a connection; whose, it does not say: see `http`.";
      unit = key types.str none "nginx.service" "Is active.";
      required = key types.bool "true" false "`false`: only reported.";
    };
  };
in
{
  _file = ./settings.nix;
  freeformType = format.type;
  options = {
    hostname =
      key types.str "networking.hostName" "joker"
        "This host's name in the repository.";
    state_dir = mkOption {
      type = types.strMatching "/.*[^/]";
      default = "/var/lib/fort-agent";
      example = "/persist/fort-agent";
      description = ''
        What outlives a boot. On a host that forgets its root file system, either
        persist this directory or name one that is persisted: without it the agent
        adopts what runs at each boot as if it came for the first time.
      '';
    };
    run_dir = mkOption {
      type = types.strMatching "/.*[^/]";
      default = "/run/fort-agent";
      example = "/run/elsewhere/fort-agent";
      description = "Where the agent's socket is.";
    };
    machine_id =
      key (types.strMatching "[0-9a-f]{32}") none "0123456789abcdef0123456789abcdef"
        "Refuse to run on any other machine.";
    remote = mkOption {
      type = types.listOf remote;
      default = [ ];
      example = literalExpression ''
        [
          {
            name = "origin";
            url = "https://git.example.org/infra/nixos.git";
            token_file = "/var/lib/fort-git/deploy-token";
          }
        ]
      '';
      description = ''
        Where the repository is, in order of preference: the next one is asked when
        this one gives no usable head. Lists of several modules are joined in the order
        of the modules: `lib.mkBefore`, `lib.mkAfter` and `lib.mkOrder` say it.
      '';
    };
    branch = section "Which branches are followed, and how." {
      release = key types.str ''"release"'' "release" "The branch that the host is kept at.";
      operation = key (types.enum [
        "switch"
        "boot"
      ]) ''"switch"'' "boot" "What is done with its systems.";
      testing =
        key types.str ''""'' "release-{hostname}-test"
          "Tried until the next reboot, while it is ahead; `\"\"` for none. Protect it as `release`.";
      force_push = key (types.enum [
        "refuse"
        "accept"
      ]) ''"refuse"'' "accept" "What is done with a head that does not descend from the last.";
    };
    poll = section "How often the remotes are asked." {
      interval = key duration ''"30s"'' "1m" "The pause.";
      jitter = key duration ''"5s"'' "10s" "Up to this is added at random.";
    };
    git = section "What reading what was pushed may cost this host. More is refused by name." {
      memory =
        key bytes ''"512M"'' "1G"
          "Memory of a fetch, and of an export. One file may take a quarter of it.";
      pack = key bytes ''"1G"'' "2G" "What is new on a remote, as it is sent.";
      tree = key bytes ''"1G"'' "2G" "A commit's files, each counted in whole blocks.";
    };
    system = section "Where in the repository this host's system is." {
      kind = key (types.enum [
        "flake"
        "file"
      ]) ''"flake"'' "file" "What is evaluated.";
      file = key types.str ''"default.nix"'' "hosts.nix" "With `kind = \"file\"`: below `flake_dir`.";
      flake_dir = key types.str ''"."'' "hosts/{hostname}" "Below the top of the repository.";
      attribute =
        key types.str ''"nixosConfigurations.{hostname}.config.system.build.toplevel"''
          "hosts.{hostname}.system"
          "The system there.";
      evaluate = key (types.enum [
        "if-needed"
        "always"
      ]) ''"if-needed"'' "always" "When a commit is evaluated.";
      timeout = key duration ''"2h"'' "30m" "For evaluating and building.";
      submodules = key types.bool "false" true ''
        Whether submodules are part of the tree. They are fetched by their commits,
        from the remote's own host only; else they are empty directories.
      '';
      limits = key (types.attrsOf (types.either types.str types.ints.positive)) none {
        memory_high = "2G";
        cpu_weight = 50;
      } "What that work may use: `memory_high`, `memory_max`, `cpu_weight`, `io_weight`.";
    };
    nix = section "How Nix is run." {
      store = key types.str ''"auto"'' "daemon" "What `--store` takes.";
      options = key (types.attrsOf format.type) "none" {
        max-jobs = 2;
      } "`--option NAME VALUE`: what gives nobody else power over the host; the rest is `nix.settings`'.";
    };
    activation = section "How a system is made the running one." {
      confirm = key (types.either (types.enum [
        "no"
        "manual"
      ]) duration) ''"no"'' "10m" "Whether a commit waits for `fort-agent confirm`, and how long.";
      windows = key windows "always" [ "Mon..Fri 02:00-05:00" ] "When systems may be activated.";
      time_zone = key types.str "the host's" "Europe/Berlin" "Whose clock the windows are on.";
      timeout = key duration ''"15m"'' "30m" "How long activating may take; also each try on the way back, which has 20 s at least.";
      drift = key (types.enum [
        "report"
        "revert"
      ]) ''"report"'' "revert" "What is done with a system that was activated by hand.";
      on_kernel_change = key (types.enum [
        "switch"
        "boot"
      ]) ''"switch"'' "boot" "Whether a changed kernel only becomes the one that boots next.";
      on_bus_change = key (types.enum [
        "boot"
        "switch"
      ]) ''"boot"'' "switch" "Whether another message bus only comes with the next boot.";
      specialisation = key types.str ''"keep"'' "none" "Which specialisation is activated: the one whose name runs (`keep`), `none`, or the one of this name.";
      on_rollback_failure = key (types.enum [
        "report"
        "reboot"
      ]) ''"report"'' "reboot" "What is done if the old system cannot be put back.";
    };
    retry = section "When something that failed is tried again." {
      first = key duration ''"60s"'' "30s" "After the first failure; doubles each time.";
      max = key duration ''"32m"'' "1h" "The longest pause.";
      activations = key types.ints.positive "3" 1 "Failed this often, a system is quarantined.";
    };
    reboot =
      optional "Whether and when the host reboots by itself; `null`: never."
        {
          allow = true;
          windows = [ "Sat 02:00-05:00" ];
        }
        {
          allow = key types.bool "false" true "Whether it does, for a system that needs it.";
          windows = key windows "always" [ "Sat 02:00-05:00" ] "When it may.";
        };
    health = section "What a system must prove before it boots by default." {
      grace = key duration ''"10s"'' "30s" "A unit may settle for this long.";
      timeout = key duration ''"3m"'' "10m" "From the end of the activation, for all checks.";
      failed_units = key (types.enum [
        "new"
        "none"
      ]) ''"new"'' "none" "Which failed units count.";
      remote = key types.bool "true" false "Whether a remote must answer from the new system.";
      on_failure = key (types.enum [
        "rollback"
        "report"
      ]) ''"rollback"'' "report" "What is done with a system that does not prove itself.";
      check = mkOption {
        type = types.listOf check;
        default = [ ];
        example = [
          {
            name = "nginx";
            unit = "nginx.service";
          }
        ];
        description = "Checks of your own; each with one of `http`, `command`, `tcp` and `unit`.";
      };
    };
    cache =
      optional "The cluster's binary cache, an Attic server; `null`: none."
        {
          endpoint = "https://cache.example.org";
          name = "fort";
          token_file = "/var/lib/fort/attic-push-token";
          public_key = "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        }
        {
          endpoint = needed types.str "https://cache.example.org" "The server.";
          name = needed types.str "fort" "The cache there.";
          token_file =
            key file none "/var/lib/fort/attic-push-token"
              "Holds a token with r and w. Read at every use; may be absent or empty for now.";
          public_key =
            key (types.either types.str (types.listOf types.str)) none
              "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
              "Who must have signed what is fetched: one key or a list.";
          substitute = key types.bool "true" false "Fetch from it what is there.";
          upstream_keys =
            key (types.listOf types.str) "none" [ "cache.nixos.org-1" ]
              "Names of keys whose paths it need not have, besides those it lists itself.";
          jobs = key (types.ints.between 1 32) "4" 8 "Paths sent at the same time.";
          publish = key (types.enum [
            "after-success"
            "off"
          ]) ''"after-success"'' "off" "Whether it is given what it lacks of a good system.";
        };
    metrics = section "The page, the metrics and the status over HTTP, for all who reach it." {
      listen = key types.str "no listener" "100.64.0.7:9101" "Its address and port.";
      names =
        key (types.listOf types.str) "none" [ "joker.example.org" ]
          "Names that it is asked by, besides its addresses, `localhost`, and the host name alone or in a domain of this network. A request for any other host is refused.";
    };
    hooks = section "Who is told when a deployment has ended." {
      on_verdict = key programs "none" [
        [
          "/run/current-system/sw/bin/notify"
          "--from"
          "fort-agent"
        ]
      ] "Programs with their arguments. Run without a shell, in the agent's own sandbox.";
      timeout = key duration ''"60s"'' "10s" "Of each.";
    };
    report =
      optional "Commit statuses on a Forgejo or Gitea; `null`: none."
        {
          forgejo = "https://git.example.org";
          repository = "infra/nixos";
          token_file = "/var/lib/fort-agent/report-token";
        }
        {
          forgejo = needed types.str "https://git.example.org" "Where it is.";
          repository = needed types.str "infra/nixos" "The repository there.";
          token_file =
            needed file "/var/lib/fort-agent/report-token"
              "Holds a token with write:repository, which can push: protect every branch. May be absent or empty for now.";
          ca_file = key file none "/etc/ssl/private-ca.pem" "Authorities to trust for it.";
        };
  };
}
