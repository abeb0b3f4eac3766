//! Attic's tokens: JWTs of its own claim, signed with HS256, and what they
//! allow. A token that is not good counts as none.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Claims of a token; [`Claims::sign`] makes a token of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Until when, and since when it is good, in seconds; for ever, if it does
    /// not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    sub: String,
    #[serde(rename = "https://jwt.attic.rs/v1")]
    access: Access,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Access {
    caches: BTreeMap<String, BTreeMap<String, u8>>,
}

/// Permission of the bearer for a cache: the bits of its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Permission(Vec<String>);

impl Claims {
    /// Grants these bits for the caches that match, for an hour from now on: `r`, `w`,
    /// `cc` and so on.
    pub(crate) fn new(caches: &str, bits: &[&str]) -> Self {
        let bits = bits.iter().map(|bit| ((*bit).to_owned(), 1)).collect();
        let access = Access { caches: [(caches.to_owned(), bits)].into() };
        let now = now();
        Self { exp: Some(now + 3600), nbf: Some(now), sub: "test".into(), access }
    }

    /// Other bits for other caches, besides.
    pub(crate) fn and(mut self, caches: &str, bits: &[&str]) -> Self {
        self.access.caches.extend(Self::new(caches, bits).access.caches);
        self
    }

    /// Good until so many seconds from now; a second ago with -1.
    pub(crate) fn expires_in(self, seconds: i64) -> Self {
        Self { exp: Some(now() + seconds), ..self }
    }

    /// Good whenever it is used.
    pub(crate) fn for_ever(self) -> Self {
        Self { exp: None, nbf: None, ..self }
    }

    /// Good from so many seconds from now on.
    pub(crate) fn begins_in(self, seconds: i64) -> Self {
        Self { nbf: Some(now() + seconds), ..self }
    }

    /// Returns the token, signed with this secret.
    pub(crate) fn sign(&self, secret: &[u8]) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap());
        let signed = format!("{header}.{claims}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Returns the claims of the token in an Authorization header, if the token is good now.
    pub(super) fn of_header(authorization: &str, secret: &[u8]) -> Option<Self> {
        let (scheme, rest) = authorization.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::verify(rest, secret);
        }
        let basic = scheme.eq_ignore_ascii_case("basic");
        let decoded = basic.then(|| STANDARD.decode(rest).ok()).flatten()?;
        let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Self::verify(password, secret)
    }

    fn verify(token: &str, secret: &[u8]) -> Option<Self> {
        let (signed, tag) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, signed.as_bytes(), &tag).ok()?;
        let claims: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = since_epoch().as_secs_f64();
        // No tolerance, of not even the rest of the second.
        #[allow(clippy::cast_precision_loss, reason = "seconds of this century")]
        let in_time = claims.nbf.is_none_or(|nbf| nbf as f64 <= now)
            && claims.exp.is_none_or(|exp| now <= exp as f64);
        let good = header["alg"] == "HS256" && in_time;
        good.then_some(claims)
    }

    pub(super) fn permission(&self, cache: &str) -> Permission {
        let caches = &self.access.caches;
        let matching = || caches.iter().find(|(pattern, _)| matches(pattern, cache));
        let bits = caches.get(cache).or_else(|| Some(matching()?.1));
        let granted = bits.into_iter().flatten().filter(|(_, on)| **on == 1);
        Permission(granted.map(|(bit, _)| bit.clone()).collect())
    }
}

impl Permission {
    /// Everybody may read a public cache.
    pub(super) fn with_public(mut self, public: bool) -> Self {
        if public {
            self.0.push("r".into());
        }
        self
    }

    /// Requires a bit. A bearer without any is not told whether there is a cache.
    pub(super) fn require(&self, bit: &str) -> Result<(), Refusal> {
        if self.0.iter().any(|granted| granted == bit) {
            Ok(())
        } else if self.can_discover() {
            Err(Refusal::access())
        } else {
            Err(Refusal::unauthorized())
        }
    }

    /// Returns the refusal of a request for a cache that does not exist.
    pub(super) fn unknown(&self) -> Refusal {
        if self.can_discover() { Refusal::no_such_cache() } else { Refusal::unauthorized() }
    }

    fn can_discover(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whether a name matches a pattern, `*` standing for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(tail, &rest[at..]))
        }),
    }
}

fn now() -> i64 {
    since_epoch().as_secs().try_into().unwrap()
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
