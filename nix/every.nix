# A configuration with every key that the module declares, each at its example;
# in lists, whose entries exclude each other's keys, at least once.
{ lib }:
settings:
let
  declared = options: lib.filterAttrs (name: o: name != "_module" && lib.isOption o) options;
  inside = type: if type.name == "nullOr" then inside type.nestedTypes.elemType else type;
  below = option: declared ((inside option.type).getSubOptions [ ]);
  isSection = option: (inside option.type).name == "submodule";
  isList =
    option:
    let
      type = inside option.type;
    in
    type.name == "listOf" && (inside type.nestedTypes.elemType).name == "submodule";
  example =
    path: option:
    if isSection option then
      lib.mapAttrs (key: example (path ++ [ key ])) (below option)
    else if isList option then
      lib.attrByPath path (throw "nix/every.nix: no entries for ${lib.showOption path}") lists
    else
      option.example;
  # What is declared, and not set here, by name.
  missing =
    path: option: value:
    let
      name = lib.showOption path;
    in
    if isSection option then
      lib.concatLists (
        lib.mapAttrsToList (key: o: missing (path ++ [ key ]) o (value.${key} or null)) (below option)
      )
    else if isList option then
      map (key: "${name}.${key}") (
        lib.subtractLists (lib.concatMap lib.attrNames value) (lib.attrNames (below option))
      )
    else
      lib.optional (value == null) name;

  lists.remote = [
    {
      name = "origin";
      url = "https://git.example.org/infra/nixos.git";
      username = "fort-agent";
      token_file = "/var/lib/fort-git/deploy-token";
      ca_file = "/etc/ssl/private-ca.pem";
      timeout = "20s";
    }
    {
      name = "backup";
      url = "ssh://git@git.example.org/infra/nixos.git";
      ssh_key_file = "/var/lib/fort-git/deploy-key";
      known_hosts = "/etc/fort-agent/known_hosts";
    }
    {
      name = "lan";
      url = "http://10.0.0.1/infra/nixos.git";
      insecure_http = true;
    }
  ];
  lists.health.check = [
    {
      name = "web";
      http = "http://127.0.0.1:8080/healthz";
      required = false;
    }
    {
      name = "disk";
      command = [
        "/run/current-system/sw/bin/test"
        "-w"
        "/var"
      ];
    }
    {
      name = "ssh";
      tcp = "127.0.0.1:22";
    }
    {
      name = "nginx";
      unit = "nginx.service";
    }
  ];
  every = lib.mapAttrs (key: example [ key ]) (declared settings);
in
{
  settings = every;
  missing = lib.concatLists (
    lib.mapAttrsToList (key: o: missing [ key ] o every.${key}) (declared settings)
  );
}
