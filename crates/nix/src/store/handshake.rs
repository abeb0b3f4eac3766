//! How a conversation with the daemon begins: which version is spoken, and
//! with which settings.

use std::collections::BTreeMap;

use super::StoreFailed;
use super::connection::Connection;
use super::wire::Request;

const OUR_MAGIC: u64 = 0x6e69_7863;
const ITS_MAGIC: u64 = 0x6478_696f;

/// Protocol version that we offer, `MAJOR << 8 | MINOR`: 1.35, of Nix 2.15. Later ones
/// add nothing that is asked for here, and begin with lists of features.
const OFFERED: u64 = version(1, 35);
/// 1.34, of Nix 2.8: the oldest that was seen to work.
const OLDEST: u64 = version(1, 34);
/// From here on it says whether it trusts us.
const SAYS_TRUST: u64 = version(1, 35);

const SET_OPTIONS: u64 = 19;

const fn version(major: u64, minor: u64) -> u64 {
    major << 8 | minor
}

impl Connection {
    /// Agrees on a version.
    pub(super) async fn greet(&mut self) -> Result<(), StoreFailed> {
        let greeting = Request::default().number(OUR_MAGIC);
        self.send(&greeting).await?;
        let magic = self.reader.number().await?;
        if magic != ITS_MAGIC {
            return Err(StoreFailed::malformed(format!("it begins with {magic:#x}")));
        }
        let its_version = self.reader.number().await?;
        if its_version >> 8 != OFFERED >> 8 || its_version < OLDEST {
            let (major, minor) = (its_version >> 8, its_version & 0xff);
            return Err(StoreFailed::malformed(format!("it speaks {major}.{minor}, not 1.34")));
        }
        // No CPU affinity and no reserved space, both long unused.
        self.send(&Request::default().number(OFFERED).number(0).number(0)).await?;
        let name = self.reader.word().await?;
        // Root is always trusted, and nobody else runs this.
        let trust = match its_version.min(OFFERED) >= SAYS_TRUST {
            true => Some(self.reader.number().await?),
            false => None,
        };
        tracing::debug!(version = name, protocol = its_version & 0xff, trust, "a Nix daemon");
        self.answered().await
    }

    /// Has it ask the caches that `nix` is told of. It keeps its own settings
    /// where nothing is configured: telling it options means telling it all of
    /// those below, too.
    pub(super) async fn set_options(
        &mut self,
        options: &[(String, String)],
    ) -> Result<(), StoreFailed> {
        if options.is_empty() {
            return Ok(());
        }
        // Of two values `nix` takes the last, and the daemon the first.
        let options: BTreeMap<&String, &String> = options.iter().map(|(k, v)| (k, v)).collect();
        let substitutes = options.iter().all(|(k, v)| *k != "substitute" || *v != "false");
        let mut request = Request::default().number(SET_OPTIONS);
        for setting in [
            0,                      // keep what failed
            0,                      // go on after a failure
            0,                      // build what cannot be fetched
            0,                      // say errors only
            1,                      // builds at once
            0,                      // the longest silence of a build
            1,                      // unused
            0,                      // say what builders say
            0,                      // unused
            0,                      // unused
            0,                      // cores for a build
            u64::from(substitutes), // fetch at all
        ] {
            request = request.number(setting);
        }
        request = request.number(options.len() as u64);
        for (name, value) in options {
            request = request.word(name).word(value);
        }
        self.send(&request).await?;
        self.answered().await
    }
}
