//! Refusals before anything is touched, with a real Nix and real file systems.

mod boot;

use std::future::{Future, pending};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fort_agent::core::job::{Order, RealiseOutcome, Realised, Refusal, RefusalCause, Target};
use fort_agent::core::policy::Operation;
use fort_agent::core::types::{BootId, Commit, Mono, StorePath, Wall};
use fort_agent::git::Limits;
use fort_agent::jobs::realise;
use fort_agent::jobs::spec::{RealiseHost, RealiseSpec};
use fort_agent::nix::Nix;
use fort_agent::nix::realise::RecipeKind;
use fort_agent::preflight::{Candidate, before_switch};
use fort_agent::store::Store;

use crate::store::{Built, Shelf};
use crate::support::mounts::{fill, free, in_own_mounts, mount, resize};
use crate::support::nix::ScratchStore;
use crate::support::system::{Host, Repository};

const MIB: u64 = 1 << 20;

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Realises the host that a repository describes, as the job does it.
fn realised(dir: &Path, repository: &Repository, commit: Commit, nix: Nix) -> Realised {
    let bare = dir.join("clone.git");
    repository.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let now = Wall::from_millis(0);
    let spec = RealiseSpec {
        order: Order {
            deployment: "19700101T000000Z-00000000-1".parse().unwrap(),
            target: Target {
                commit,
                branch: "release".into(),
                remote: "origin".into(),
                operation: Operation::Switch,
                first_seen: now,
            },
            attempt: 1,
            started: now,
            recipe: "flake".into(),
            boot_id: BootId("boot".into()),
            ordered: Mono::from_millis(0),
        },
        host: RealiseHost {
            clone: bare,
            exports: dir.join("exports"),
            hostname: "joker".into(),
            kind: RecipeKind::Flake,
            file: String::new(),
            flake_dir: ".".into(),
            attribute: "nixosConfigurations.{hostname}.config.system.build.toplevel".into(),
            nix,
            evaluator: None,
            timeout: Duration::from_secs(120),
            cache: None,
            submodules: false,
            limits: Limits::default(),
        },
    };
    let job = dir.join("job");
    std::fs::create_dir(&job).unwrap();
    std::fs::write(job.join("spec.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let agent = Path::new(env!("CARGO_BIN_EXE_fort-agent"));
    block(realise::run(agent, &job, pending())).unwrap();
    let outcome = std::fs::read(job.join("outcome.json")).unwrap();
    serde_json::from_slice::<RealiseOutcome>(&outcome).unwrap().result
}

#[track_caller]
fn refused(realised: Realised) -> Refusal {
    match realised {
        Realised::Refused { refusal } => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn figure(refusal: &Refusal, name: &str) -> u64 {
    refusal.evidence[name].parse().unwrap()
}

/// The names in a store that end like this.
fn named(store: &ScratchStore, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(store.root().directory()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

#[test]
fn a_build_for_which_there_is_no_room_is_refused() {
    in_own_mounts("preflight::a_build_for_which_there_is_no_room_is_refused", || {
        let store = ScratchStore::new();
        let repository = Repository::create(store.dir().join("repository"));
        let host = Host { parts: 2, ..Host::new("one") };
        let commit = repository.host("joker", &host).commit("Describe joker");
        let disk = store.dir().join("store");
        mount(&disk, "256M");
        // What Nix itself lays out comes first.
        store.run("nix-store", &["--verify"]);
        // Room for the evaluation, and less than the 5 % that are kept free.
        fill(&disk, 11 * MIB);

        let first = store.dir().join("first");
        std::fs::create_dir(&first).unwrap();
        let refusal = refused(realised(&first, &repository, commit, store.nix()));
        assert_eq!(refusal.cause, RefusalCause::DiskSpace);
        assert!(refusal.detail.contains("something is to be built"), "{}", refusal.detail);
        assert!(figure(&refusal, "free") < figure(&refusal, "reserve"));
        assert_eq!(figure(&refusal, "reserve"), 256 * MIB / 20);
        assert_eq!(named(&store, "-system-joker"), Vec::<String>::new());

        std::fs::remove_file(disk.join("filler")).unwrap();
        let second = store.dir().join("second");
        std::fs::create_dir(&second).unwrap();
        let built = realised(&second, &repository, commit, store.nix());
        let Realised::Built { system } = built else { panic!("{built:?}") };
        assert!(store.has(&system));

        // What is there already needs no room, not even what is kept free.
        fill(&disk, 5 * MIB);
        let third = store.dir().join("third");
        std::fs::create_dir(&third).unwrap();
        let again = realised(&third, &repository, commit, store.nix());
        assert_eq!(again, Realised::Built { system });
    });
}

#[test]
fn a_download_for_which_there_is_no_room_is_refused() {
    in_own_mounts("preflight::a_download_for_which_there_is_no_room_is_refused", || {
        let store = ScratchStore::new();
        let repository = Repository::create(store.dir().join("repository"));
        let large = "\"$tools/busybox\" dd if=/dev/zero of=\"$out\" bs=1048576 count=90";
        repository.write("scripts/part", large);
        let host = Host { parts: 1, ..Host::new("one") };
        let commit = repository.host("joker", &host).commit("Describe joker");
        // Built elsewhere, and published.
        let builder = store.nix_on(format!("local?root={}", store.dir().join("builder").display()));
        let at_builder = store.dir().join("at-builder");
        std::fs::create_dir(&at_builder).unwrap();
        let built = realised(&at_builder, &repository, commit, builder.clone());
        let Realised::Built { system } = built else { panic!("{built:?}") };
        let options = store.cache_of(&builder, system.as_str());

        let disk = store.dir().join("store");
        mount(&disk, "64M");
        let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
        let nix = store.nix_with(store.store(), &options);
        let first = store.dir().join("first");
        std::fs::create_dir(&first).unwrap();
        let refusal = refused(realised(&first, &repository, commit, nix.clone()));
        assert_eq!(refusal.cause, RefusalCause::DiskSpace);
        assert!(figure(&refusal, "fetch") > 90 * MIB, "{refusal:?}");
        assert!(figure(&refusal, "free") < 64 * MIB);
        // What was begun in that moment is not valid.
        assert!(!block(Store::of(&nix).is_valid(&system)).unwrap());

        resize(&disk, "256M");
        let second = store.dir().join("second");
        std::fs::create_dir(&second).unwrap();
        let built = realised(&second, &repository, commit, nix);
        assert_eq!(built, Realised::Built { system });
    });
}

/// A system that is built, on a host where nothing else is.
struct Scene {
    shelf: Shelf,
    system: StorePath,
    /// Runs before it, if anything does.
    running: Option<StorePath>,
}

impl Scene {
    fn of(host: &Host) -> Self {
        let shelf = Shelf::of(host);
        let Built { system, .. } = shelf.build();
        let scene = Self { shelf, system, running: None };
        std::fs::create_dir_all(scene.root()).unwrap();
        scene
    }

    fn root(&self) -> PathBuf {
        self.shelf.store.dir().join("root")
    }

    fn look(&self, needs_agent: bool, default: Option<&StorePath>) -> Result<(), Refusal> {
        self.try_look(&self.shelf.store.nix(), needs_agent, default).unwrap()
    }

    fn try_look(
        &self,
        nix: &Nix,
        needs_agent: bool,
        default: Option<&StorePath>,
    ) -> anyhow::Result<Result<(), Refusal>> {
        let (root, store) = (self.root(), self.shelf.store.root());
        let (root, store, system) = (&root, &store, &self.system);
        block(before_switch(&Candidate {
            root,
            store,
            nix,
            system,
            running: self.running.as_ref(),
            default,
            needs_agent,
            writes_boot: true,
        }))
    }

    /// Where something of the system really is, to be changed: the store
    /// itself makes everything read-only, which root need not mind.
    fn physical(&self, below: &str) -> PathBuf {
        self.physical_of(&self.system, below)
    }

    fn physical_of(&self, system: &StorePath, below: &str) -> PathBuf {
        self.shelf.store.root().physical(system).join(below)
    }
}

#[test]
fn a_whole_system_is_not_refused() {
    let scene = Scene::of(&Host { parts: 2, ..Host::new("one") });
    assert_eq!(scene.look(false, None), Ok(()));
    std::fs::create_dir(scene.root().join("boot")).unwrap();
    assert_eq!(scene.look(false, None), Ok(()));
}

#[test]
fn a_closure_with_a_lost_path_is_refused() {
    let scene = Scene::of(&Host { parts: 2, ..Host::new("one") });
    let lost = named(&scene.shelf.store, "-part-1").pop().unwrap();
    std::fs::remove_file(scene.shelf.store.root().directory().join(&lost)).unwrap();
    let refusal = scene.look(false, None).unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::IncompleteClosure);
    assert!(refusal.detail.ends_with(&lost), "{}", refusal.detail);
    assert_eq!(refusal.evidence["such_as"], format!("/nix/store/{lost}"));
    assert_eq!(refusal.evidence["lost"], "1");
}

#[test]
fn a_system_that_is_gone_is_an_incomplete_closure() {
    let scene = Scene::of(&Host::new("one"));
    scene.shelf.store.run("nix-store", &["--delete", scene.system.as_str()]);
    let refusal = scene.look(true, None).unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::IncompleteClosure);
    assert_eq!(refusal.evidence["such_as"], scene.system.as_str());
}

#[test]
fn a_system_without_the_agent_is_refused_where_it_must_have_one() {
    let scene = Scene::of(&Host::new("one"));
    assert_eq!(scene.look(false, None), Ok(()));
    let refusal = scene.look(true, None).unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::NoAgent);
    assert_eq!(refusal.evidence["system"], scene.system.as_str());

    // As NixOS has it: links through the store, where the kernel finds none.
    let units = scene.physical("etc/systemd/system");
    let unit = scene.physical("etc/unit");
    std::fs::write(&unit, "[Service]").unwrap();
    let link = units.join("fort-agent.service");
    symlink(Path::new(scene.system.as_str()).join("etc/unit"), &link).unwrap();
    assert_eq!(scene.look(true, None), Ok(()));

    // And one that is not enabled.
    std::fs::remove_file(&link).unwrap();
    symlink("/dev/null", &link).unwrap();
    assert_eq!(scene.look(true, None).unwrap_err().cause, RefusalCause::NoAgent);
}

#[test]
fn a_system_without_nix_is_refused_where_the_running_one_has_it() {
    let mut scene = Scene::of(&Host::new("one"));
    std::fs::write(scene.physical("etc/systemd/system/fort-agent.service"), "[Service]").unwrap();
    assert_eq!(scene.look(true, None), Ok(()));
    let other = scene.shelf.described_as(&Host::new("two")).build().system;
    let units = ["nix-daemon.socket", "nix-daemon.service"];
    let unit = |scene: &Scene, system: &StorePath, name: &str| {
        scene.physical_of(system, &format!("etc/systemd/system/{name}"))
    };
    scene.running = Some(other.clone());
    assert_eq!(scene.look(true, None), Ok(()), "neither has it");
    std::fs::write(unit(&scene, &other, units[0]), "[Socket]").unwrap();
    let refusal = scene.look(true, None).unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::NoAgent);
    assert!(refusal.detail.contains("nix.enable = false"), "{}", refusal.detail);
    assert_eq!(scene.look(false, None), Ok(()), "nobody asks for an agent");
    for name in units {
        let own = unit(&scene, &scene.system, name);
        std::fs::write(&own, "[Unit]").unwrap();
        assert_eq!(scene.look(true, None), Ok(()), "{name}");
        std::fs::remove_file(&own).unwrap();
        symlink("/dev/null", &own).unwrap();
        assert!(scene.look(true, None).is_err(), "{name} is not enabled");
    }
}

#[test]
fn a_daemon_that_is_away_refuses_nothing_and_hides_no_refusal() {
    let scene = Scene::of(&Host::new("one"));
    let nowhere = scene.shelf.store.dir().join("no-socket");
    let nix = scene.shelf.store.nix_on(format!("unix://{}", nowhere.display()));
    let error = format!("{:#}", scene.try_look(&nix, false, None).unwrap_err());
    assert!(error.contains("cannot be reached"), "{error}");
    let refusal = scene.try_look(&nix, true, None).unwrap().unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::NoAgent);
}
