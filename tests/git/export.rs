//! Writing out a commit's tree: faithful, or refused.

mod limits;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fort_agent::core::types::Commit;
use fort_agent::git::{Export, ExportError, Limits, Unfit, export};

use super::evil;
use crate::support::forge::{Forge, Repo, wait_for};
use crate::support::mounts::{fill, free, in_own_mounts, mount};
use crate::support::work::{EPOCH, git, hermetic};

/// A repository, and a place to export to.
struct Source {
    _forge: Forge,
    repo: Repo,
    dir: tempfile::TempDir,
}

impl Source {
    fn new() -> Self {
        let forge = Forge::start();
        let repo = forge.repo("infra");
        Self { _forge: forge, repo, dir: tempfile::tempdir().unwrap() }
    }

    fn commit(&self) -> Commit {
        let commit = self.repo.work.commit("a commit");
        self.repo.work.force_push("main");
        commit
    }

    fn to(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn export(&self, commit: Commit, to: &str, previous: Option<&str>) -> Result<(), ExportError> {
        export(&self.order(commit, to, previous)).map(|_| ())
    }

    fn order(&self, commit: Commit, to: &str, previous: Option<&str>) -> Export {
        Export {
            clone: self.repo.bare.clone(),
            commit,
            dest: self.to(to),
            previous: previous.map(|name| self.to(name)),
            submodules: false,
            limits: Limits::default(),
        }
    }

    /// Why a commit is not exported; nothing is left of the attempt.
    fn refusal(&self, commit: Commit) -> (String, Unfit) {
        let error = self.export(commit, "refused", None).unwrap_err();
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0);
        let ExportError::Refused { path, why } = error else { unreachable!("{error:?}") };
        (path, why)
    }

    /// A commit of a tree made of these entries, whatever git would say.
    fn crafted(&self, entries: &[(&str, &[u8], &str)]) -> Commit {
        let mut tree = Vec::new();
        for (mode, name, id) in entries {
            tree.extend_from_slice(format!("{mode} ").as_bytes());
            tree.extend_from_slice(name);
            tree.push(0);
            tree.extend_from_slice(id.parse::<Commit>().unwrap().as_bytes());
        }
        let tree = self.object("tree", &tree);
        let made = git(&self.repo.bare, EPOCH, &["commit-tree", "-m", "crafted", &tree]);
        made.parse().unwrap()
    }

    fn object(&self, kind: &str, content: &[u8]) -> String {
        let arguments = ["hash-object", "-w", "--literally", "--stdin", "-t", kind];
        let mut child = hermetic(&self.repo.bare, 0)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Directory,
    File { executable: bool, content: Vec<u8> },
    Link(OsString),
}

/// Everything below a directory, by its path in it.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_dir() {
                directories.push(path.clone());
                Found::Directory
            } else if metadata.is_symlink() {
                Found::Link(fs::read_link(&path).unwrap().into_os_string())
            } else {
                let executable = metadata.mode() & 0o111 != 0;
                Found::File { executable, content: fs::read(&path).unwrap() }
            };
            found.insert(path.strip_prefix(dir).unwrap().to_owned(), what);
        }
    }
    found
}

/// Exports the same commit by `git archive`. Returns the tree.
fn archived(source: &Source, commit: Commit) -> BTreeMap<PathBuf, Found> {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("archive.tar");
    let to = dir.path().join("tree");
    fs::create_dir(&to).unwrap();
    let output = format!("--output={}", tar.display());
    git(&source.repo.bare, 0, &["archive", "--format=tar", &output, &commit.to_string()]);
    let unpacked =
        std::process::Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&to).status();
    assert!(unpacked.unwrap().success());
    tree(&to)
}

#[test]
fn an_export_is_what_git_archive_gives() {
    let source = Source::new();
    let work = &source.repo.work;
    for odd in [
        "plain",
        " ",
        "-rf",
        "a b/c d",
        "new\nline",
        "tab\t",
        "quote\"'",
        "back\\slash",
        "*?[x]",
        "ünïcödé/日本",
        "~",
        "$HOME",
        ".hidden/.also",
        ".gitignore",
        ".gitmodules",
        "git",
        "con",
        "very/deep/ly/nested/di/rec/to/ry/file",
        ".git-not",
    ] {
        work.write(odd, format!("content of {odd}"));
    }
    let bytes = OsString::from_vec(b"not utf-8 \xff\xfe".to_vec());
    fs::write(work.dir().join(bytes), b"\0\x01\xff binary").unwrap();
    work.write(&"n".repeat(255), "long name").write("empty", "").write("crlf", "a\r\nb\r\n");
    work.write("script", "#!/bin/sh\n").executable("script");
    work.symlink("plain", "link").symlink("/nix/store/x y", "absolute").symlink("../..", "up");
    work.symlink("nowhere", "dangling");
    work.write("big", vec![b'x'; 3 << 20]);
    let commit = source.commit();
    source.export(commit, "out", None).unwrap();
    assert_eq!(tree(&source.to("out")), archived(&source, commit));
    for (path, what) in tree(&source.to("out")) {
        if let Found::File { executable, .. } = what {
            let mode = fs::metadata(source.to("out").join(&path)).unwrap().permissions().mode();
            let expected = if executable { 0o555 } else { 0o444 };
            assert_eq!(mode & 0o777, expected, "{}", path.display());
        }
    }
    fs::remove_dir_all(source.to("out")).unwrap();
}

#[test]
fn an_empty_tree_is_an_empty_directory() {
    let source = Source::new();
    let commit = source.commit();
    source.export(commit, "out", None).unwrap();
    assert!(tree(&source.to("out")).is_empty());
}

#[test]
fn time_and_count_are_those_of_the_commit() {
    let source = Source::new();
    for n in 0..4 {
        source.repo.work.write("n", n.to_string()).commit("one more");
    }
    source.repo.work.git(&["checkout", "-q", "-b", "side", "HEAD~2"]);
    source.repo.work.write("side", "s").commit("side");
    source.repo.work.git(&["merge", "-q", "--no-edit", "main"]);
    let commit = source.commit();
    let done = export(&source.order(commit, "out", None)).unwrap();
    let say = |args: &[&str]| git(&source.repo.bare, 0, args).parse::<i64>().unwrap();
    let hex = commit.to_string();
    assert_eq!(done.last_modified, say(&["show", "-s", "--format=%ct", &hex]));
    let count = say(&["rev-list", "--count", &hex]);
    assert_eq!(i64::try_from(done.rev_count).unwrap(), count);
    assert_eq!(done.dir, source.to("out"));
}

#[test]
fn unchanged_files_are_links_to_the_previous_export() {
    let source = Source::new();
    let work = &source.repo.work;
    for name in ["same", "dir/same", "changed", "dir/gone", "mode", "other/x", "to-link", "to-dir"]
    {
        work.write(name, name);
    }
    work.symlink("same", "link");
    let first = source.commit();
    source.export(first, "first", None).unwrap();
    work.write("changed", "new").write("dir/new", "new").executable("mode");
    work.remove("dir/gone").remove("to-link").symlink("same", "to-link");
    work.remove("to-dir").write("to-dir/x", "x").remove("other").write("other", "now a file");
    let second = source.commit();
    source.export(second, "second", Some("first")).unwrap();
    assert_eq!(tree(&source.to("second")), archived(&source, second));
    assert_eq!(tree(&source.to("first")), archived(&source, first));

    let inode = |path: &str| source.to(path).symlink_metadata().unwrap().ino();
    for same in ["same", "dir/same", "link"] {
        assert_eq!(inode(&format!("first/{same}")), inode(&format!("second/{same}")), "{same}");
    }
    for changed in ["changed", "mode", "to-link"] {
        assert_ne!(inode(&format!("first/{changed}")), inode(&format!("second/{changed}")));
    }
    fs::remove_dir_all(source.to("first")).unwrap();
    assert_eq!(tree(&source.to("second")), archived(&source, second));
}

#[test]
fn a_previous_export_that_cannot_be_trusted_is_not_linked_to() {
    let source = Source::new();
    source.repo.work.write("a", "a");
    let commit = source.commit();
    source.export(commit, "first", None).unwrap();
    let label = source.to("first.commit");
    let inode = |path: &str| source.to(path).metadata().unwrap().ino();
    for (n, bad) in [
        format!("{commit} 00000000-0000-0000-0000-000000000000\n"),
        "garbage".into(),
        format!("{commit}\n"),
        fs::read_to_string(&label).unwrap().replace(&commit.to_string(), &"1".repeat(40)),
    ]
    .iter()
    .enumerate()
    {
        fs::write(&label, bad).unwrap();
        let to = format!("next-{n}");
        source.export(commit, &to, Some("first")).unwrap();
        assert_ne!(inode("first/a"), inode(&format!("{to}/a")), "{bad}");
    }
    source.export(commit, "alone", Some("absent")).unwrap();
}

#[test]
fn a_previous_export_that_lacks_files_is_made_up_for() {
    let source = Source::new();
    source.repo.work.write("a", "a").write("d/b", "b");
    let commit = source.commit();
    source.export(commit, "first", None).unwrap();
    fs::remove_dir_all(source.to("first/d")).unwrap();
    source.export(commit, "second", Some("first")).unwrap();
    assert_eq!(tree(&source.to("second")), archived(&source, commit));
}

#[test]
fn an_export_never_touches_what_is_there() {
    let source = Source::new();
    source.repo.work.write("a", "a");
    let commit = source.commit();
    fs::create_dir(source.to("out")).unwrap();
    let error = source.export(commit, "out", None).unwrap_err();
    assert!(matches!(error, ExportError::Local { .. }), "{error:?}");
    assert!(tree(&source.to("out")).is_empty());
}

#[test]
fn what_a_killed_export_left_is_removed() {
    let source = Source::new();
    source.repo.work.write("a", "a");
    let commit = source.commit();
    fs::create_dir_all(source.to("out.partial-1/x")).unwrap();
    source.export(commit, "out", None).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(source.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["out", "out.commit"]);
}

#[test]
fn a_submodule_is_an_empty_directory_as_for_git_archive_and_is_named() {
    let source = Source::new();
    source.repo.work.write("a", "a").commit("first");
    let head = source.repo.work.head();
    let entry = format!("160000,{head},libs/sub");
    source.repo.work.git(&["update-index", "--add", "--cacheinfo", &entry]);
    source.repo.work.git(&["commit", "-q", "-m", "a submodule"]);
    source.repo.work.push("main");
    let commit = source.repo.work.head();
    for (to, previous) in [("first", None), ("second", Some("first"))] {
        let done = export(&source.order(commit, to, previous)).unwrap();
        assert_eq!(done.elsewhere, ["libs/sub (a submodule)"]);
        assert_eq!(tree(&source.to(to)), archived(&source, commit));
    }
}

#[test]
fn an_lfs_pointer_stays_the_text_that_it_is_and_is_named() {
    let source = Source::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    source.repo.work.write("big/file.bin", pointer).write("other", "x");
    let commit = source.commit();
    for (to, previous) in [("first", None), ("second", Some("first"))] {
        let done = export(&source.order(commit, to, previous)).unwrap();
        assert_eq!(done.elsewhere, ["big/file.bin (in Git LFS)"]);
        assert_eq!(fs::read_to_string(source.to(to).join("big/file.bin")).unwrap(), pointer);
    }
}

#[test]
fn a_text_about_lfs_is_not_a_pointer() {
    let source = Source::new();
    source.repo.work.write("doc", "Git LFS: version https://git-lfs.github.com/spec/v1\n");
    let done = export(&source.order(source.commit(), "out", None)).unwrap();
    assert!(done.elsewhere.is_empty());
}

#[test]
fn a_clone_without_the_commit_or_with_holes_is_damaged() {
    let source = Source::new();
    source.repo.work.write("dir/file", "content");
    let commit = source.commit();
    let absent = "1".repeat(40).parse().unwrap();
    let error = source.export(absent, "out", None).unwrap_err();
    assert!(matches!(error, ExportError::Damaged(_)), "{error:?}");
    for what in ["HEAD:dir/file", "HEAD:dir", "HEAD"] {
        let hex = source.repo.work.git(&["rev-parse", what]);
        let object = source.repo.bare.join("objects").join(&hex[..2]).join(&hex[2..]);
        let whole = fs::read(&object).unwrap();
        for damage in [None, Some(&b""[..]), Some(b"nonsense"), Some(&whole[..whole.len() / 2])] {
            fs::remove_file(&object).unwrap();
            if let Some(bytes) = damage {
                fs::write(&object, bytes).unwrap();
            }
            let error = source.export(commit, "out", None).unwrap_err();
            assert!(matches!(error, ExportError::Damaged(_)), "{what} {damage:?}: {error:?}");
            assert_eq!(fs::read_dir(source.dir.path()).unwrap().count(), 0);
            fs::write(&object, &whole).unwrap();
        }
    }
    source.export(commit, "out", None).unwrap();
}

#[test]
fn no_clone_is_damaged_too() {
    let source = Source::new();
    let commit = source.commit();
    let order = Export { clone: source.to("absent"), ..source.order(commit, "out", None) };
    let error = export(&order).unwrap_err();
    assert!(matches!(error, ExportError::Damaged(_)), "{error:?}");
}
