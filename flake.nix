# No flake.lock: nobody has resolved the input on a machine with a network yet.
# Whoever uses this as an input pins nixpkgs by their own lock.
{
  description = "Keeps a NixOS host at what a git branch says, and never leaves it broken";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forAllSystems =
        make:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
    in
    {
      overlays.default = final: _: { fort-agent = final.callPackage ./package.nix { }; };

      nixosModules.default = ./module.nix;

      packages = forAllSystems (pkgs: rec {
        fort-agent = pkgs.callPackage ./package.nix { };
        default = fort-agent;
      });

      checks = forAllSystems (
        pkgs:
        {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        }
        // import ./vm-tests/nixos { inherit pkgs; }
      );

      # In a checkout: it builds and runs what is there.
      apps = forAllSystems (pkgs: {
        demo = {
          type = "app";
          meta.description = "A forge, two hosts and a cache, and what happens between them";
          program = lib.getExe (
            pkgs.writeShellApplication {
              name = "fort-agent-demo";
              runtimeInputs = self.devShells.${pkgs.stdenv.hostPlatform.system}.default.nativeBuildInputs;
              text = "cargo run --quiet --locked --example demo";
            }
          );
        };
      });

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          nativeBuildInputs = with pkgs; [
            cargo
            cargo-deny
            cargo-nextest
            clippy
            dbus
            git
            gnumake
            nix
            openssh
            pkgsStatic.busybox
            polkit
            prometheus
            rustc
            rustfmt
            stdenv.cc
          ];
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
