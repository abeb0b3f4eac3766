//! Claims of a token. They are not verified here, which is the server's part: they are
//! read to tell people why the server refused it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use fort_core::types::Wall;

/// A token that becomes valid within this time is waited for: one that was
/// made a moment ago is not valid yet on a server whose clock is behind.
const SOON: Duration = Duration::from_secs(10);

/// RFC 7519's claims, and Attic's own.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(rename = "https://jwt.attic.rs/v1")]
    attic: Option<Permissions>,
}

#[derive(Deserialize)]
struct Permissions {
    /// Permissions, by patterns of caches' names.
    #[serde(default)]
    caches: BTreeMap<String, Value>,
}

/// Reason for which a server does not accept a token, as far as the token itself shows it.
pub(super) fn fault(token: &str, cache: &str) -> Option<String> {
    let Some(claims) = read(token) else {
        return Some("it is not a token of Attic's".into());
    };
    let now = now().as_secs_f64();
    let time = |seconds: f64| {
        // A float that is cast saturates: an absurd time stays absurd.
        #[allow(clippy::cast_possible_truncation)]
        Wall::from_millis((seconds * 1000.0) as i64)
    };
    if let Some(exp) = claims.exp.filter(|exp| *exp <= now) {
        return Some(format!("it expired at {}", time(exp)));
    }
    if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > now) {
        let nbf = time(nbf);
        return Some(format!("it is not valid before {nbf}: is this host's clock right?"));
    }
    let patterns = claims.attic.map(|attic| attic.caches).unwrap_or_default();
    let names_it = patterns.keys().any(|pattern| matches(pattern, cache));
    (!names_it).then(|| format!("it is for other caches than `{cache}`"))
}

/// Time until a token is valid, if that is soon and it is not yet.
pub(super) fn valid_in(token: &str) -> Option<Duration> {
    let from = Duration::try_from_secs_f64(read(token)?.nbf?).ok()?;
    // The server's clock may be behind this one.
    let wait = (from + Duration::from_secs(2)).checked_sub(now())?;
    (wait <= SOON).then_some(wait)
}

fn read(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Attic's patterns: `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(after) = name.strip_prefix(start) else { return false };
    (0..=after.len()).filter(|at| after.is_char_boundary(*at)).any(|at| matches(rest, &after[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn claims(from: i64, until: i64, pattern: &str) -> String {
        let now = i64::try_from(now().as_secs()).unwrap();
        token(&format!(
            r#"{{"nbf":{},"exp":{},"https://jwt.attic.rs/v1":{{"caches":{{"{pattern}":{{"r":1}}}}}}}}"#,
            now + from,
            now + until,
        ))
    }

    #[test]
    fn a_refused_token_tells_why() {
        let why = |token: &str| fault(token, "fort").unwrap_or_default();
        assert_eq!(why(&claims(-60, 60, "f*t")), "");
        assert!(why(&claims(-60, -1, "fort")).starts_with("it expired at 20"));
        assert!(why(&claims(60, 120, "fort")).starts_with("it is not valid before 20"));
        assert_eq!(why(&claims(-60, 60, "fort-x")), "it is for other caches than `fort`");
        for garbage in ["", "x", "a.b.c", "a.!.c", &token("[]"), &token("{\"exp\":1e400}")] {
            assert!(!why(garbage).is_empty(), "{garbage}");
        }
    }

    #[test]
    fn only_a_token_that_is_valid_soon_is_waited_for() {
        assert_eq!(valid_in(&claims(-60, 60, "*")), None);
        assert!(valid_in(&claims(3, 60, "*")).is_some_and(|wait| wait <= SOON));
        assert_eq!(valid_in(&claims(60, 120, "*")), None);
        assert_eq!(valid_in(&token(r#"{"nbf":-1e308}"#)), None);
        assert_eq!(valid_in("x"), None);
    }
}
