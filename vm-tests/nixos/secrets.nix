# Hazard: a secret that comes with a deployment is not there when its service
# starts, is readable by others, or is lost when the deployment is put back.
#
# agenix is no part of nixpkgs. This does what its module does, and no more: at
# activation the host's ssh key decrypts files of the store into /run/agenix.
{
  config,
  nodes,
  lib,
  hostPkgs,
  ...
}:
let
  system = node: "${nodes.${node}.system.build.toplevel}";
  keys = import (hostPkgs.path + "/nixos/tests/ssh-keys.nix") hostPkgs;
  strangersKey = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

  base = {
    imports = [ config.base ];
    services.openssh.enable = true;
    # Known before the test, so that secrets can be encrypted to it.
    environment.etc."ssh/ssh_host_ed25519_key" = {
      source = keys.snakeOilEd25519PrivateKey;
      mode = "0600";
    };
    services.openssh.hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
    services.fort-agent.hostPublicKey = keys.snakeOilEd25519PublicKey;
  };

  withSecret =
    plain: recipient:
    { pkgs, ... }:
    let
      encrypted = pkgs.runCommand "token.age" { nativeBuildInputs = [ pkgs.age ]; } ''
        printf %s ${plain} | age --encrypt --recipient "${recipient}" --output $out
      '';
    in
    {
      imports = [ base ];
      system.activationScripts.agenix = {
        deps = [
          "specialfs"
          "etc"
        ];
        text = ''
          mkdir -p -m 0751 /run/agenix
          (
            umask 0377
            rm -f /run/agenix/token.tmp
            ${lib.getExe pkgs.age} --decrypt --identity /etc/ssh/ssh_host_ed25519_key \
              --output /run/agenix/token.tmp ${encrypted} &&
              mv -f /run/agenix/token.tmp /run/agenix/token
          )
        '';
      };
      systemd.services.reader = {
        wantedBy = [ "multi-user.target" ];
        restartTriggers = [ encrypted ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          DynamicUser = true;
          RuntimeDirectory = "reader";
          LoadCredential = "token:/run/agenix/token";
        };
        script = "cp $CREDENTIALS_DIRECTORY/token /run/reader/saw";
      };
    };
in
{
  name = "secrets";
  nodes.joker = {
    imports = [ base ];
    # Not started here: only built, for the host to switch to.
    virtualisation.additionalPaths = map system [
      "two"
      "three"
      "strange"
    ];
  };
  nodes.two = withSecret "marzipan" keys.snakeOilEd25519PublicKey;
  nodes.three = withSecret "liquorice" keys.snakeOilEd25519PublicKey;
  nodes.strange = withSecret "nobody" strangersKey;
  script = ''
    def secret():
        assert joker.succeed("stat -c '%a %U' /run/agenix/token").strip() == "400 root"
        joker.wait_for_unit("reader.service")
        seen = joker.succeed("cat /run/agenix/token")
        assert joker.succeed("cat /run/reader/saw") == seen
        return seen

    create()
    assert verdict(push("${system "two"}")) == "good"
    assert secret() == "marzipan"
    # A changed one arrives with the service that reads it.
    assert verdict(push("${system "three"}")) == "good"
    assert secret() == "liquorice"
    # This host cannot decrypt that: the activation fails, and is put back.
    assert verdict(push("${system "strange"}")) == "rolled-back"
    assert running() == boots() == "${system "three"}"
    assert secret() == "liquorice"
    # Nothing of it went to the log or can be read by others.
    assert "liquorice" not in joker.succeed("journalctl --unit 'fort-agent*' --output cat")
    joker.fail("setpriv --reuid 65534 --clear-groups cat /run/agenix/token")
  '';
}
