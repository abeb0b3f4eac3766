//! Readers of single values, such as names, sizes, durations and paths.
//!
//! A reader's error continues the sentence "`key` must ...". Where a secret may
//! have been put by mistake (paths) the value is not repeated.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::duration;
use super::wording::{instead, nearest, printable, shown};
use crate::core::policy::{Confirm, Specialisation};
use crate::specialisation::is_name;
use crate::windows::{self, TimeZone, Windows};

/// Value that was read, or what it "must" be.
pub(super) type Read<T> = Result<T, String>;

/// Reads text that is not empty and has no control characters.
pub(super) fn text(value: &DeValue<'_>) -> Read<String> {
    match value.as_str() {
        None => Err(instead("a string", value)),
        Some("") => Err("not be empty".to_owned()),
        Some(text) if text.contains(char::is_control) => {
            Err("not contain control characters".to_owned())
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// Reads a name that is safe as part of a file name, a git ref and a label.
pub(super) fn name(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = text.len() <= 64
        && text.chars().all(allowed)
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && !text.ends_with(".lock")
        && !text.contains("..");
    let must = "be a name: at most 64 letters, digits, dots, dashes and underscores";
    if good { Ok(text) } else { Err(format!("{must}, not {}", shown(&text))) }
}

/// Reads a user name for a git remote: HTTP's basic authentication splits at a colon.
pub(super) fn username(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    if text.contains(':') { Err("not contain a colon".to_owned()) } else { Ok(text) }
}

/// Reads the 32 hexadecimal digits of `/etc/machine-id`.
pub(super) fn machine_id(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 32 && text.bytes().all(digit) {
        Ok(text)
    } else {
        Err("be the 32 lower-case hexadecimal digits of /etc/machine-id".to_owned())
    }
}

/// Reads a boolean: `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| instead("true or false", value))
}

/// Reads a whole number from 1.
pub(super) fn count(value: &DeValue<'_>) -> Read<u32> {
    let number = value.as_integer().ok_or_else(|| instead("a whole number", value))?;
    match u32::from_str_radix(number.as_str(), number.radix()) {
        Ok(count @ 1..) => Ok(count),
        _ => Err(format!("be a whole number from 1 to {}", u32::MAX)),
    }
}

/// Reads a size in bytes: `"512M"`, `"2G"`, as systemd has them (powers of 1024).
pub(super) fn bytes(value: &DeValue<'_>) -> Read<u64> {
    let text = value.as_str().ok_or_else(|| instead("a size as in \"2G\"", value))?;
    let must = || format!("be a size as in \"512M\" or \"2G\", not {}", shown(text));
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        Some(b'T') => (&text[..text.len() - 1], 1_u64 << 40),
        Some(_) | None => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| must())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(must)
}

/// Reads a weight from 1 to 10000, as systemd has them.
pub(super) fn weight(value: &DeValue<'_>) -> Read<u32> {
    match count(value) {
        Ok(weight @ 1..=10_000) => Ok(weight),
        Ok(_) | Err(_) => Err("be a whole number from 1 to 10000".to_owned()),
    }
}

/// Reads a unit's whole name, such as `nginx.service`.
pub(super) fn unit(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || r":-_.\@".contains(c);
    let kind = text.rsplit_once('.').filter(|(name, _)| !name.is_empty()).map(|(_, kind)| kind);
    let kinds = ["service", "socket", "timer", "mount", "target", "path", "device", "swap"];
    if text.len() <= 255 && text.chars().all(allowed) && kind.is_some_and(|k| kinds.contains(&k)) {
        Ok(text)
    } else {
        Err(format!("be a unit's whole name as in \"nginx.service\", not {}", shown(&text)))
    }
}

/// Reads the specialisation that is activated: `keep`, `none` or a name.
pub(super) fn specialisation(value: &DeValue<'_>) -> Read<Specialisation> {
    let name = text(value)?;
    match name.as_str() {
        "keep" => Ok(Specialisation::Keep),
        "none" => Ok(Specialisation::None),
        name if is_name(name) => Ok(Specialisation::Named(name.into())),
        _ => Err(format!("be \"keep\", \"none\" or a specialisation's name, not {}", shown(&name))),
    }
}

/// Reads a duration, which may be zero.
pub(super) fn duration(value: &DeValue<'_>) -> Read<Duration> {
    let text = value.as_str().ok_or_else(|| instead(duration::EXAMPLES, value))?;
    duration::parse(text).map_err(|must| format!("{must} (it is {})", shown(text)))
}

/// Reads a duration that is longer than zero.
pub(super) fn positive(value: &DeValue<'_>) -> Read<Duration> {
    match duration(value)? {
        Duration::ZERO => Err("be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Reads a list of windows of time.
pub(super) fn windows(value: &DeValue<'_>) -> Read<Windows> {
    let must = format!("a list of windows such as {}", windows::EXAMPLE);
    let list = value.as_array().ok_or_else(|| instead(&must, value))?;
    let written: Option<Vec<_>> = list.iter().map(|window| window.get_ref().as_str()).collect();
    let written = written.ok_or_else(|| format!("be {must}"))?;
    Windows::parse(&written).map_err(|malformed| format!("be {must}: {malformed}"))
}

/// Reads whether a commit waits for a person, and for how long at most.
pub(super) fn confirm(value: &DeValue<'_>) -> Read<Confirm> {
    match text(value)?.as_str() {
        "no" => Ok(Confirm::No),
        "manual" => Ok(Confirm::Manual),
        text => match duration::parse(text) {
            Ok(after) if !after.is_zero() => Ok(Confirm::After(after)),
            Ok(_) => Err("be longer than zero, or \"no\"".to_owned()),
            Err(wrong) => Err(match wrong.strip_prefix("be ") {
                Some(rest) => format!("be \"no\", \"manual\" or {rest}"),
                None => wrong,
            }),
        },
    }
}

/// Reads a time zone of the tz database.
pub(super) fn time_zone(value: &DeValue<'_>) -> Read<TimeZone> {
    let text = text(value)?;
    windows::zone(&text).ok_or_else(|| {
        let names = windows::zone_names();
        let meant = nearest(&text, names.iter().map(String::as_str));
        let meant = meant.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        let must = "be the name of a time zone such as \"Europe/Berlin\"";
        format!("{must}, not {}{meant}", shown(&text))
    })
}

/// Reads an absolute path, without `..`.
pub(super) fn absolute(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = PathBuf::from(text(value)?);
    no_placeholder(&path.to_string_lossy())?;
    if !path.has_root() {
        Err("be an absolute path".to_owned())
    } else if path.components().any(|c| c == Component::ParentDir) {
        Err("not contain `..`".to_owned())
    } else {
        Ok(path)
    }
}

/// Directories of the host, below which others have theirs.
const SHARED: [&str; 17] = [
    "/etc/nixos",
    "/nix/store",
    "/nix/var",
    "/run/lock",
    "/run/secrets",
    "/run/systemd",
    "/run/user",
    "/run/fort-agent-handover",
    "/usr/local",
    "/usr/share",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
    "/var/db",
];

/// Reads a directory that is the agent's alone: it is closed to everybody else.
pub(super) fn own_directory(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = absolute(value)?;
    let deep = path.components().filter(|c| matches!(c, Component::Normal(_))).count() > 1;
    if deep && !SHARED.iter().any(|shared| path == Path::new(shared)) {
        Ok(path)
    } else {
        Err("be a directory of the agent's own, as in \"/persist/fort-agent\": it is closed to \
             everybody else, and others have files in this one"
            .to_owned())
    }
}

/// Reads a path that stays below where it starts; `.` is that place itself.
pub(super) fn inside(path: &str) -> Read<PathBuf> {
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("not contain `..`".to_owned()),
            Component::RootDir | Component::Prefix(_) => {
                return Err("be relative to the top of the repository".to_owned());
            }
        }
    }
    Ok(if inside.as_os_str().is_empty() { PathBuf::from(".") } else { inside })
}

/// Reads an address and a port to listen on.
pub(super) fn address(value: &DeValue<'_>) -> Read<SocketAddr> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        format!("be an IP address and a port, as in \"100.64.0.7:9101\", not {}", shown(&text))
    })
}

/// Reads names of hosts, without a port.
pub(super) fn host_names(value: &DeValue<'_>) -> Read<Vec<String>> {
    let must = "be a list of host names, as in [\"joker.example.org\"]";
    let list = value.as_array().ok_or_else(|| instead(&must["be ".len()..], value))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = |name: &&str| {
        !name.is_empty() && name.len() <= 253 && name.chars().all(plain) && !name.starts_with('.')
    };
    let names = list.iter().map(|name| name.get_ref().as_str().filter(good).map(str::to_owned));
    names.collect::<Option<_>>().ok_or_else(|| must.to_owned())
}

/// Reads a host (its name or address) and a port, kept as they are written.
pub(super) fn endpoint(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let host_good = !host.is_empty() && host.chars().all(plain);
        let address_good = text.parse::<SocketAddr>().is_ok();
        let port_good = port.starts_with(|c: char| c.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0);
        port_good && (host_good || address_good)
    });
    let must = "be a host and a port, as in \"127.0.0.1:22\"";
    if good { Ok(text) } else { Err(format!("{must}, not {}", shown(&text))) }
}

/// Reads the absolute path of a file that ssh is told of.
pub(super) fn ssh_path(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = absolute(value)?;
    if crate::git::ssh_takes(&path) {
        Ok(path)
    } else {
        Err("have no spaces, quotes, `%`, `$` or `~`: ssh would read them otherwise".to_owned())
    }
}

/// Reads a program and its arguments. It is run as it is: no shell, no PATH of ours.
pub(super) fn command(value: &DeValue<'_>) -> Read<Vec<String>> {
    let must = "a list of strings: the program, then its arguments";
    let list = value.as_array().ok_or_else(|| instead(must, value))?;
    let words: Option<Vec<_>> =
        list.iter().map(|word| Some(word.get_ref().as_str()?.to_owned())).collect();
    let words = words.ok_or_else(|| format!("be {must}"))?;
    match words.first().map(String::as_str) {
        None | Some("") => Err("name a program".to_owned()),
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            Err("name its program by an absolute path, or by a name to be found in PATH".to_owned())
        }
        Some(_) if words.iter().any(|word| word.contains('\0')) => {
            Err("not contain NUL characters".to_owned())
        }
        Some(_) => Ok(words),
    }
}

/// Reads programs and their arguments, each by an absolute path.
pub(super) fn programs(value: &DeValue<'_>) -> Read<Vec<Vec<String>>> {
    let must = "a list of lists of strings: of each program its path, then its arguments";
    let list = value.as_array().ok_or_else(|| instead(must, value))?;
    let words = list.iter().map(|one| match one.get_ref() {
        DeValue::Array(_) => command(one.get_ref()),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => Err(format!("be {must}")),
    });
    let words = words.collect::<Read<Vec<_>>>()?;
    let relative = |words: &&Vec<String>| words.first().is_none_or(|path| !path.starts_with('/'));
    match words.iter().find(relative) {
        Some(_) => Err("name each program by an absolute path".to_owned()),
        None => Ok(words),
    }
}

/// Replaces `{hostname}` in a text; any other placeholder is refused.
pub(super) fn expanded(text: &str, hostname: &str) -> Read<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let end = after.find('}').ok_or("close the `{` of a placeholder")?;
        let (name, after) = (&after[..end], &after[end + 1..]);
        if name != "hostname" {
            let name = printable(name);
            return Err(format!(
                "not contain `{{{name}}}`: the only placeholder is `{{hostname}}`"
            ));
        }
        expanded += before;
        expanded += hostname;
        rest = after;
    }
    if rest.contains('}') {
        return Err("open the `{` of a placeholder".to_owned());
    }
    Ok(expanded + rest)
}

/// Refuses `{hostname}` where it is not replaced: the text would be used as it stands,
/// to the surprise of whoever wrote it.
pub(super) fn no_placeholder(text: &str) -> Read<()> {
    if text.contains("{hostname}") {
        Err("not contain `{hostname}`: it is replaced only in branch names, `flake_dir` and \
             `attribute`"
            .to_owned())
    } else {
        Ok(())
    }
}
