# Hazard: what one host has built is built again by the next.
{
  config,
  lib,
  hostPkgs,
  ...
}:
let
  # Of this test only.
  secretKey = "fort:oU5bw1q/C8cirnmEsAQx5qEKL6g5Vw42dXvbINCCoCRcQPNVl7uUyRsfmt8RU14BimOTOqyehtYb9EZMqoy6ig==";
  publicKey = "fort:XEDzVZe7lMkbH5rfEVNeAYpjkzqsnobWG/RGTKqMuoo=";

  certificates =
    hostPkgs.runCommand "certificates" { nativeBuildInputs = [ hostPkgs.minica ]; }
      ''
        mkdir $out
        cd $out
        minica --domains forge
      '';
  # Signs the servers' tokens.
  environmentFile =
    hostPkgs.runCommand "attic-env" { nativeBuildInputs = [ hostPkgs.openssl ]; }
      ''
        echo "ATTIC_SERVER_TOKEN_RS256_SECRET_BASE64=$(openssl genrsa -traditional 4096 | base64 -w0)" > $out
      '';

  tools = [
    hostPkgs.bash
    hostPkgs.coreutils
    hostPkgs.findutils
    hostPkgs.gnused
  ];
  # The systems that the hosts run, and more that they have to build: a payload
  # that comes out differently each time, so that two who have the same one cannot
  # both have built it.
  infra = ''
    let
      tools = map builtins.storePath [ ${toString (map (tool: ''"${tool}"'') tools)} ];
      build = name: script: derivation {
        inherit name;
        system = builtins.currentSystem;
        builder = "''${builtins.head tools}/bin/bash";
        args = [ "-euc" script ];
        PATH = builtins.concatStringsSep ":" (map (tool: "''${tool}/bin") tools);
      };
      payload = build "payload" "head -c 3000000 /dev/urandom > $out";
      host = system: build "nixos-system" '''
        cp -dR ''${builtins.storePath system}/. $out
        chmod -R u+w $out
        # It knows itself by its path.
        find $out -type f -exec sed -i "s|''${system}|$out|g" {} +
        ln -s ''${payload} $out/payload
      ''';
    in
    {
      joker = host "JOKER";
      penny = host "PENNY";
    }
  '';

  host = {
    imports = [ config.base ];
    security.pki.certificateFiles = [ "${certificates}/minica.pem" ];
    virtualisation.additionalPaths = tools;
    services.fort-agent.settings = {
      remote = [
        {
          name = "origin";
          url = "https://forge/infra.git";
          token_file = "/var/lib/fort/deploy-token";
        }
      ];
      cache = {
        endpoint = "https://forge";
        name = "fort";
        token_file = "/var/lib/fort/attic-push-token";
        public_key = publicKey;
        # What the machines of this test come with need not be in the cache.
        upstream_keys = [ "base-1" ];
      };
    };
  };
in
{
  name = "cache";
  repositoryOn = "forge";
  nodes.joker = host;
  nodes.penny = {
    imports = [ host ];
    networking.hostName = lib.mkForce "penny";
  };
  nodes.forge =
    { config, pkgs, ... }:
    {
      environment.systemPackages = [ pkgs.gitMinimal ];
      networking.firewall.allowedTCPPorts = [ 443 ];
      services.atticd = {
        enable = true;
        inherit environmentFile;
        settings.api-endpoint = "https://forge/";
      };
      services.fcgiwrap.instances.git = {
        # Who made the repository, or Git would not trust it.
        process.user = "root";
        process.group = "root";
        socket = { inherit (config.services.nginx) user group; };
      };
      services.nginx = {
        enable = true;
        recommendedProxySettings = true;
        clientMaxBodySize = "0";
        virtualHosts.forge = {
          onlySSL = true;
          sslCertificate = "${certificates}/forge/cert.pem";
          sslCertificateKey = "${certificates}/forge/key.pem";
          locations."/".proxyPass = "http://127.0.0.1:8080";
          locations."/infra.git/" = {
            basicAuth.fort-agent = "deploy";
            fastcgiParams = {
              SCRIPT_FILENAME = "${pkgs.gitMinimal}/libexec/git-core/git-http-backend";
              GIT_PROJECT_ROOT = "/var/lib";
              GIT_HTTP_EXPORT_ALL = "1";
              PATH_INFO = "$uri";
            };
            extraConfig = "fastcgi_pass unix:${config.services.fcgiwrap.instances.git.socket.address};";
          };
        };
      };
    };
  script = ''
    nix = "nix --extra-experimental-features nix-command"

    def secret(host, path, text):
        host.succeed(
            f"mkdir -p $(dirname {path})",
            f"umask 077; printf %s {shlex.quote(text)} > {path}",
        )

    def starts(host):
        """A host that has nothing of its own yet; returns its system."""
        host.start()
        host.wait_for_unit("fort-agent.service")
        # It comes up without a token, and waits for it.
        wait_status(host, ".remotes[0].reachable == false")
        host.succeed(
            "nix-store --generate-binary-cache-key base-1 /root/base.secret /root/base.public",
            f"{nix} store sign --recursive --key-file /root/base.secret /run/current-system",
        )
        return running(host)

    def let_in(host):
        secret(host, "/var/lib/fort/attic-push-token", token)
        secret(host, "/var/lib/fort/deploy-token", "deploy")

    def payload(host):
        return host.succeed("readlink /run/current-system/payload").strip()

    create()
    forge.wait_for_unit("nginx.service")
    forge.wait_for_unit("atticd.service")
    forge.wait_for_open_port(8080)
    token = forge.succeed(
        "atticd-atticadm make-token --sub hosts --validity 1y"
        " --create-cache fort --pull fort --push fort"
    ).strip()
    cache = json.dumps({
        "keypair": {"Keypair": "${secretKey}"},
        "is_public": False,
        "store_dir": "/nix/store",
        "priority": 41,
        "upstream_cache_key_names": [],
    })
    forge.succeed(
        f"curl --fail-with-body -sS -H 'Authorization: Bearer {token}'"
        f" -H 'Content-Type: application/json' -d {shlex.quote(cache)}"
        " http://127.0.0.1:8080/_api/v1/cache-config/fort"
    )

    # Both come up and wait, so that both systems are known.
    systems = {"JOKER": starts(joker), "PENNY": starts(penny)}
    expression = ${builtins.toJSON infra}
    for name, system in systems.items():
        expression = expression.replace(name, system)
    commit = commit_nix(expression)

    let_in(joker)
    assert verdict(commit) == "good"
    system = running()
    assert system != systems["JOKER"]
    wait_status(joker, f'.publish.backlog == 0 and .publish.system == "{system}"')
    built = json.loads(joker.succeed(f"{nix} path-info --json {payload(joker)}"))
    assert "fort:" not in json.dumps(built)

    let_in(penny)
    assert verdict(commit, penny) == "good"
    assert payload(penny) == payload(joker)
    # It was not built again: each build comes out differently.
    checksum = f"sha256sum {payload(joker)}"
    assert penny.succeed(checksum) == joker.succeed(checksum)
    fetched = penny.succeed(f"{nix} path-info --json {payload(penny)}")
    assert "fort:" in fetched, fetched
    # Nobody else on the host can read what lets it in.
    assert penny.succeed("stat -c '%a %U' /var/lib/fort-agent/netrc").strip() == "600 root"
  '';
}
