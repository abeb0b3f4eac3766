# A machine with a real boot loader on a disk of its own, which boots what is the
# default there. Others of these tests are booted by QEMU, whatever they switch to.
{
  virtualisation = {
    useBootLoader = true;
    useEFIBoot = true;
    # The image has room for its own systems only.
    diskSize = 8192;
    fileSystems."/".autoResize = true;
  };
  boot.growPartition = true;
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
}
