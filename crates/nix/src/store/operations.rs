//! Requests to the daemon, one function for each, with the fields as versions 1.34 and
//! 1.35 have them.

use std::collections::BTreeSet;

use super::connection::Connection;
use super::wire::{Request, store_path};
use super::{Missing, NarHash, PathInfo, StoreFailed, Wanted};
use fort_core::types::StorePath;

const IS_VALID_PATH: u64 = 1;
const ADD_TEMP_ROOT: u64 = 11;
const ADD_INDIRECT_ROOT: u64 = 12;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_VALID_PATHS: u64 = 31;
const NAR_FROM_PATH: u64 = 38;
const QUERY_MISSING: u64 = 40;

impl Connection {
    pub(super) async fn is_valid(&mut self, path: &StorePath) -> Result<bool, StoreFailed> {
        self.send(&Request::default().number(IS_VALID_PATH).word(path.as_str())).await?;
        self.answered().await?;
        self.reader.flag().await
    }

    /// Keeps a path from the garbage collector until the conversation ends.
    pub(super) async fn add_temp_root(&mut self, path: &StorePath) -> Result<(), StoreFailed> {
        self.send(&Request::default().number(ADD_TEMP_ROOT).word(path.as_str())).await?;
        self.answered().await?;
        self.reader.number().await.map(|_always_one| ())
    }

    /// Keeps a path until the conversation ends. Returns whether the store has it.
    pub(super) async fn hold(&mut self, path: &StorePath) -> Result<bool, StoreFailed> {
        self.add_temp_root(path).await?;
        self.is_valid(path).await
    }

    /// Makes a link a root: its target is kept for as long as the link leads to it.
    pub(super) async fn add_indirect_root(&mut self, link: &str) -> Result<(), StoreFailed> {
        self.send(&Request::default().number(ADD_INDIRECT_ROOT).word(link)).await?;
        self.answered().await?;
        self.reader.number().await.map(|_always_one| ())
    }

    /// Asks for the packed contents of a path. They follow on the connection without a length.
    pub(super) async fn nar_from_path(&mut self, path: &StorePath) -> Result<(), StoreFailed> {
        self.send(&Request::default().number(NAR_FROM_PATH).word(path.as_str())).await?;
        self.answered().await
    }

    pub(super) async fn valid_paths(
        &mut self,
        paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, StoreFailed> {
        let request = Request::default().number(QUERY_VALID_PATHS);
        let request = request.words(paths.iter().map(StorePath::as_str));
        // Those that can be fetched are not fetched.
        self.send(&request.number(0)).await?;
        self.answered().await?;
        self.reader.paths().await
    }

    /// In the order of the paths: at most [`super::BATCH`] of them, which are
    /// asked about at once.
    pub(super) async fn path_infos(
        &mut self,
        paths: &[StorePath],
    ) -> Result<Vec<Option<PathInfo>>, StoreFailed> {
        let ask = |all: Request, path: &StorePath| all.number(QUERY_PATH_INFO).word(path.as_str());
        self.send(&paths.iter().fold(Request::default(), ask)).await?;
        let mut infos = Vec::with_capacity(paths.len());
        for _ in paths {
            self.answered().await?;
            let known = self.reader.flag().await?;
            infos.push(if known { Some(self.path_info().await?) } else { None });
        }
        Ok(infos)
    }

    async fn path_info(&mut self) -> Result<PathInfo, StoreFailed> {
        let reader = &mut self.reader;
        let deriver = Some(reader.word().await?).filter(|deriver| !deriver.is_empty());
        let hash = reader.word().await?;
        let references = reader.paths().await?;
        let _registered = reader.number().await?;
        let nar_size = reader.number().await?;
        let ultimate = reader.flag().await?;
        let signatures = reader.words().await?;
        let content_address = Some(reader.word().await?).filter(|address| !address.is_empty());
        Ok(PathInfo {
            deriver: deriver.as_deref().map(store_path).transpose()?,
            nar_hash: NarHash::from_hex(&hash)
                .ok_or_else(|| StoreFailed::malformed(format!("{hash:.200?} is not a SHA-256")))?,
            nar_size,
            references,
            ultimate,
            signatures,
            content_address,
        })
    }

    pub(super) async fn missing(&mut self, wanted: &[Wanted]) -> Result<Missing, StoreFailed> {
        let words = wanted.iter().map(|wanted| match wanted {
            Wanted::Path(path) => path.to_string(),
            Wanted::Outputs(derivation) => format!("{derivation}!*"),
        });
        self.send(&Request::default().number(QUERY_MISSING).words(words)).await?;
        self.answered().await?;
        let reader = &mut self.reader;
        Ok(Missing {
            build: reader.paths().await?,
            fetch: reader.paths().await?,
            unknown: reader.paths().await?,
            download_size: reader.number().await?,
            nar_size: reader.number().await?,
        })
    }
}
