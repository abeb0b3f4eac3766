//! Room for a kernel on the boot file system.

use super::*;

/// A system whose kernel and initrd are of this length each.
fn with_kernel(length: usize) -> Scene {
    Scene::of(&Host { kernel: "k".repeat(length), ..Host::new("one") })
}

/// The name that boot loaders give a part of a system.
fn copy_of(system: &StorePath, part: &str) -> String {
    format!("{}-{part}", system.base_name())
}

#[test]
fn a_kernel_that_does_not_fit_the_boot_file_system_is_refused() {
    in_own_mounts(
        "preflight::boot::a_kernel_that_does_not_fit_the_boot_file_system_is_refused",
        || {
            let scene = with_kernel(50 << 10);
            let (boot, efi) = (scene.root().join("boot"), scene.root().join("boot/efi"));
            mount(&boot, "4M");
            assert_eq!(scene.look(false, None), Ok(()));
            fill(&boot, MIB);
            let refusal = scene.look(false, None).unwrap_err();
            assert_eq!(refusal.cause, RefusalCause::DiskSpace);
            assert_eq!(refusal.evidence["directory"], boot.to_str().unwrap());
            // Two files of 13 pages, and a MiB for the rest.
            assert_eq!(figure(&refusal, "needed"), 2 * 13 * 4096 + MIB);
            assert!(figure(&refusal, "free") <= MIB);

            // What boots now is there.
            assert_eq!(scene.look(false, Some(&scene.system)), Ok(()));

            // As are copies, if they are whole.
            let kernels = boot.join("kernels");
            std::fs::create_dir(&kernels).unwrap();
            for part in ["kernel", "initrd"] {
                let copy = kernels.join(copy_of(&scene.system, part));
                std::fs::copy(scene.physical(part), copy).unwrap();
            }
            assert_eq!(scene.look(false, None), Ok(()));
            let cut = kernels.join(copy_of(&scene.system, "initrd"));
            std::fs::File::options().write(true).open(cut).unwrap().set_len(99).unwrap();
            let refusal = scene.look(false, None).unwrap_err();
            assert_eq!(refusal.evidence["files"], copy_of(&scene.system, "initrd"));

            // Kernels may be in another one: with room.
            std::fs::remove_dir_all(&kernels).unwrap();
            mount(&efi, "4M");
            std::fs::create_dir_all(efi.join("EFI/nixos")).unwrap();
            assert_eq!(scene.look(false, None), Ok(()));
            assert!(free(&boot) <= MIB);
        },
    );
}

#[test]
fn what_systemd_boot_removes_first_makes_room() {
    in_own_mounts("preflight::boot::what_systemd_boot_removes_first_makes_room", || {
        let scene = with_kernel(50 << 10);
        let boot = scene.root().join("boot");
        mount(&boot, "4M");
        let (kernels, entries) = (boot.join("EFI/nixos"), boot.join("loader/entries"));
        let profiles = scene.root().join("nix/var/nix/profiles");
        for directory in [&kernels, &entries, &profiles] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let hash = "nixos-5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8+2-1";
        let generation = |number: u32| {
            symlink(scene.system.as_str(), profiles.join(format!("system-{number}-link"))).unwrap();
        };
        for number in [7, 8] {
            generation(number);
            std::fs::write(kernels.join(format!("{number}-kernel.efi")), vec![0; 300 << 10])
                .unwrap();
            let text = format!(
                "title NixOS\nversion Generation {number} NixOS 26.05 (Linux 6.18)\n\
                 linux /EFI/nixos/{number}-kernel.efi\n"
            );
            // Both names that NixOS has given entries.
            let name = if number == 7 { hash } else { "nixos-generation-8" };
            std::fs::write(entries.join(format!("{name}.conf")), text).unwrap();
        }
        fill(&boot, MIB);
        // As many entries as generations: all of them stay.
        assert_eq!(scene.look(false, None).unwrap_err().cause, RefusalCause::DiskSpace);
        // Fewer: their number is limited, and the oldest goes.
        generation(6);
        assert_eq!(scene.look(false, None), Ok(()));
        std::fs::remove_file(profiles.join("system-6-link")).unwrap();
        assert!(scene.look(false, None).is_err());
        // One whose generation is gone.
        std::fs::remove_file(profiles.join("system-7-link")).unwrap();
        assert_eq!(scene.look(false, None), Ok(()));
    });
}
