# fort-agent from this checkout: plain buildRustPackage, dependencies by Cargo.lock.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  pkgs,
}:
let
  inherit (lib) fileset;
  manifest = lib.importTOML ./Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = "fort-agent";
  inherit (manifest.workspace.package) version;

  src = fileset.toSource {
    root = ./.;
    # The manifest names the tests, so they are there; they are not built.
    fileset = fileset.unions [
      ./Cargo.toml
      ./Cargo.lock
      ./agent
      ./crates
      ./tests
      ./vm-tests
    ];
  };
  cargoLock.lockFile = ./Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "fort-agent"
    "--bin"
    "fort-agent"
  ];
  # They need a Nix daemon's store, a bus and servers: `make test` runs them.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  # Who may talk to the agent over the system bus, and what polkit is asked.
  postInstall = ''
    mkdir -p $out/share
    cp -r agent/share/. $out/share/
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/fort-agent man --out man
    installManPage man/*
    installShellCompletion --cmd fort-agent \
      --bash <($out/bin/fort-agent completions bash) \
      --fish <($out/bin/fort-agent completions fish) \
      --zsh <($out/bin/fort-agent completions zsh)
  '';

  # Whole machines, each with one hazard.
  passthru.tests = import ./vm-tests/nixos { inherit pkgs; };

  meta = {
    description = "Keeps a NixOS host at what a git branch says, and never leaves it broken";
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "fort-agent";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
