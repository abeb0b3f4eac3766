//! A repository as people have them: 540 files of a few kilobytes, and 1,400
//! commits of which each changes three of them. The same in every run.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use fort_agent::core::types::Commit;

use super::work::{EPOCH, git, hermetic};

pub(crate) const COMMITS: u64 = 1_400;
pub(crate) const FILES: u64 = 540;

/// Imports the commits into a repository, as its branch `main`.
pub(crate) fn grow(repository: &Path) -> Commit {
    let mut stream = Vec::new();
    let mut random = 42_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut files: Vec<Vec<String>> = (0..FILES)
        .map(|_| {
            (0..10 + next() % 60)
                .map(|_| format!("  option.{:x} = {:x};\n", next(), next()))
                .collect()
        })
        .collect();
    for n in 0..COMMITS {
        let time = EPOCH + i64::try_from(n).unwrap();
        stream.extend_from_slice(
            format!("commit refs/heads/main\ncommitter Ann <a@b.c> {time} +0000\ndata 4\nmore\n")
                .as_bytes(),
        );
        let changed: Vec<u64> =
            if n == 0 { (0..FILES).collect() } else { (0..3).map(|_| next() % FILES).collect() };
        for file in changed {
            let lines = &mut files[usize::try_from(file).unwrap()];
            let line = usize::try_from(next()).unwrap() % lines.len();
            lines[line] = format!("  option.{:x} = {:x};\n", next(), next());
            let text = lines.concat();
            let path = format!("clusters/c{}/hosts/h{}/module-{file}.nix", file % 4, file % 31);
            stream.extend_from_slice(
                format!("M 100644 inline {path}\ndata {}\n{text}", text.len()).as_bytes(),
            );
        }
    }
    let mut import = hermetic(repository, EPOCH)
        .args(["fast-import", "--quiet", "--force"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(import.wait().unwrap().success());
    git(repository, 0, &["repack", "-adfq"]);
    git(repository, 0, &["rev-parse", "main"]).parse().unwrap()
}
