//! Archives of paths as they are sent, byte for byte those that Nix itself makes.

use std::ffi::OsString;
use std::fs;
use std::future::poll_fn;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use fort_agent::nar::{self, Fault, NarFailed, Packed};
use fort_agent::store::{NarHash, PathInfo, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::nix::ScratchStore;

/// File of a store path, of any kind that there can be.
#[derive(Clone, Debug)]
enum Node {
    File { contents: Vec<u8>, executable: bool },
    Link(String),
    Directory(Vec<(String, Node)>),
}

impl Node {
    fn make(&self, at: &Path) {
        match self {
            Self::File { contents, executable } => {
                fs::write(at, contents).unwrap();
                let mode = if *executable { 0o555 } else { 0o444 };
                fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
            }
            Self::Link(target) => symlink(target, at).unwrap(),
            Self::Directory(entries) => {
                fs::create_dir(at).unwrap();
                for (name, node) in entries {
                    // Of two with the same name the first one stays.
                    if fs::symlink_metadata(at.join(name)).is_err() {
                        node.make(&at.join(name));
                    }
                }
            }
        }
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    // Around the padding to eight bytes, and around a chunk.
    let length = prop_oneof![0..20_usize, 119_000..133_000_usize, Just(300_000)];
    let file = (length, any::<u8>(), any::<bool>()).prop_map(|(length, seed, executable)| {
        let contents = (0..length).map(|at| at.to_le_bytes()[0] ^ seed).collect();
        Node::File { contents, executable }
    });
    let link = "[^\0]{1,300}".prop_map(Node::Link);
    prop_oneof![4 => file, 1 => link].prop_recursive(4, 24, 6, |inner| {
        let name = prop_oneof![
            3 => "[^/\0]{1,60}".prop_filter("a name", |n| n != "." && n != ".."),
            1 => "[a-cA-C~.]{1,2}".prop_filter("a name", |n| n != "." && n != ".."),
            1 => Just("x".repeat(255)),
        ];
        prop::collection::vec((name, inner), 0..6).prop_map(Node::Directory)
    })
}

fn dump(path: &Path) -> Vec<u8> {
    let output = Command::new("nix-store").arg("--dump").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn info_of(nar: &[u8]) -> PathInfo {
    let digest = ring::digest::digest(&ring::digest::SHA256, nar);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    PathInfo {
        deriver: None,
        nar_hash: NarHash::from_hex(&hex).unwrap(),
        nar_size: nar.len() as u64,
        references: Default::default(),
        ultimate: true,
        signatures: Vec::new(),
        content_address: None,
    }
}

/// All that comes, and why there is no more if that is too early.
fn taken(pack: impl FnOnce() -> (Packed, Fault)) -> (Vec<u8>, Option<NarFailed>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut packed, fault) = pack();
        let mut bytes = Vec::new();
        while let Some(chunk) = poll_fn(|cx| packed.poll_next(cx)).await {
            bytes.extend(chunk);
        }
        (bytes, fault.get())
    })
}

fn packed(place: &Path, info: &PathInfo) -> (Vec<u8>, Option<NarFailed>) {
    taken(|| nar::pack(place.to_owned(), info, |_| ()))
}

#[test]
fn any_tree_is_packed_as_nix_packs_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("tree");
    let mut runner = TestRunner::new(Config { cases: 100, ..Config::default() });
    let same = runner.run(&nodes(), |node| {
        node.make(&place);
        let expected = dump(&place);
        let (bytes, failed) = packed(&place, &info_of(&expected));
        match node {
            Node::Directory(_) => fs::remove_dir_all(&place).unwrap(),
            Node::File { .. } | Node::Link(_) => fs::remove_file(&place).unwrap(),
        }
        prop_assert_eq!(failed, None);
        prop_assert!(bytes == expected, "{} bytes and {}", bytes.len(), expected.len());
        Ok(())
    });
    same.unwrap();
}

#[test]
fn what_is_not_as_registered_never_comes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, vec![7; 400_000]).unwrap();
    let expected = dump(&file);
    let info = info_of(&expected);

    fs::write(&file, [vec![7; 399_999], vec![8]].concat()).unwrap();
    let (bytes, failed) = packed(&file, &info);
    assert!(bytes.len() < expected.len());
    assert_eq!(failed, Some(NarFailed::Damaged));

    fs::write(&file, vec![7; 400_001]).unwrap();
    assert_eq!(packed(&file, &info).1, Some(NarFailed::Damaged));
    fs::write(&file, b"").unwrap();
    assert_eq!(packed(&file, &info).1, Some(NarFailed::Damaged));

    fs::remove_file(&file).unwrap();
    assert!(matches!(packed(&file, &info).1, Some(NarFailed::Unreadable(_))));
    // No kind of file that Nix knows: opening it would wait for a writer.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert!(matches!(packed(&file, &info).1, Some(NarFailed::Unreadable(_))));
}

/// Nix takes any bytes for a name. Then its daemon packs the path.
#[test]
fn a_name_that_is_no_text_is_packed_by_the_daemon() {
    let store = ScratchStore::new();
    let odd = store.dir().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(OsString::from_vec(vec![b'a', 0xff, b'b'])), vec![7; 400_000]).unwrap();
    let path = store.run("nix-store", &["--add", odd.to_str().unwrap()]).parse().unwrap();
    let place = store.root().physical(&path);
    let expected = dump(&place);
    let info = info_of(&expected);
    assert!(matches!(packed(&place, &info).1, Some(NarFailed::Unreadable(_))));

    let by_daemon = |info| taken(|| nar::packed_by(Store::of(&store.nix()), &path, info, |_| ()));
    assert_eq!(by_daemon(&info), (expected, None));
    let other = info_of(b"something else");
    let longer = PathInfo { nar_size: info.nar_size, ..other };
    assert_eq!(by_daemon(&longer).1, Some(NarFailed::Damaged));
}
