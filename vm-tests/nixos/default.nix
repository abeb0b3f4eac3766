# Real NixOS machines, one hazard a file. `nix flake check` runs them on a machine
# that can build or fetch nixpkgs; nix/check evaluates them where a tree is given.
{ pkgs }:
let
  inherit (pkgs) lib;
  files = lib.filterAttrs (name: _: lib.hasSuffix ".nix" name && name != "default.nix") (
    builtins.readDir ./.
  );
in
lib.mapAttrs' (
  name: _:
  lib.nameValuePair (lib.removeSuffix ".nix" name) (
    pkgs.testers.runNixOSTest {
      imports = [
        ./common/repository.nix
        ./${name}
      ];
    }
  )
) files
