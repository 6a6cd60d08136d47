//! What the values in a configuration file mean.

use super::finding::Problem;
use auth::{Key, PasswordHash, Rate, ScramVerifier, Sender};
use clap::ValueEnum;
use ipnet::IpNet;
use shard::config::{DomainPattern, NextHop};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// The longest time that can be asked for; beyond, a unit was mixed up.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

type Parsed<T> = Result<T, Problem>;

/// `"mail.example.com"`; `"auto"` stands for the machine's name.
pub fn hostname(value: &DeValue<'_>) -> Parsed<String> {
    match text(value)? {
        "auto" => Ok(super::machine_name()),
        name if mail::address::is_domain(name) && name.is_ascii() => Ok(name.to_ascii_lowercase()),
        name => Err(Problem::new(
            format!("{name:?} is no host name"),
            "write the full name of this machine, such as \"mail.example.com\", or \"auto\"",
        )),
    }
}

/// A path, not empty and without NUL.
pub fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    match text(value)? {
        path if path.is_empty() || path.contains('\0') => Err(Problem::new(
            format!("{path:?} is no path"),
            "write a directory, such as \"/var/lib/mtad/spool\"",
        )),
        path => Ok(path.into()),
    }
}

/// A [`path`], or `"none"`.
pub fn path_or_none(value: &DeValue<'_>) -> Parsed<Option<PathBuf>> {
    if value.as_str() == Some("none") { Ok(None) } else { path(value).map(Some) }
}

/// `true` or `false`.
pub fn truth(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| of_type(value, "true or false", "write it without quotes"))
}

/// A number above zero.
pub fn count<T: TryFrom<u64>>(value: &DeValue<'_>) -> Parsed<T> {
    let number = integer(value)?;
    if number == Some(0) {
        return Err(Problem::new("is 0, so that nothing would be possible", "write at least 1"));
    }
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        Problem::new(format!("{} is out of range", shown(value)), format!("write 1 to {}", greatest::<T>()))
    })
}

/// A share of a hundred, up to 50.
pub fn percent(value: &DeValue<'_>) -> Parsed<u8> {
    match integer(value)? {
        Some(percent @ 0..=50) => Ok(percent as u8),
        _ => Err(Problem::new(format!("{} is out of range", shown(value)), "write 0 to 50")),
    }
}

/// `"25MiB"`, `"64KiB"`, `"2GiB"`, or a number of bytes; above zero.
pub fn bytes(value: &DeValue<'_>) -> Parsed<u64> {
    let bytes = match value.as_str() {
        Some(text) => sized(text)?,
        None => integer(value)?,
    };
    match bytes {
        Some(0) => Err(Problem::new("is 0, so that nothing would fit", "write a size, such as \"25MiB\"")),
        Some(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(Problem::new(format!("{} is out of range", shown(value)), "write less than \"8EiB\"")),
    }
}

/// As [`bytes`], for what must fit into memory.
pub fn memory(value: &DeValue<'_>) -> Parsed<usize> {
    let too_much = |_| Problem::new(format!("{} is out of range", shown(value)), "write less");
    bytes(value).and_then(|bytes| usize::try_from(bytes).map_err(too_much))
}

/// `"250ms"`, `"2s"`, `"5m"`, `"4h"`, `"5d"`; above zero and at most [`DURATION_MAX`].
pub fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    let example = "write a number and ms, s, m, h or d, such as \"5m\"";
    let Some(text) = value.as_str() else {
        return Err(of_type(value, "a text with a unit of time", example));
    };
    let (number, unit) = split_unit(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Problem::new(format!("{text:?} is no time"), example)),
    };
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(millis)).map(Duration::from_millis) {
        Some(Duration::ZERO) => Err(Problem::new("is no time at all", "write at least \"1ms\"")),
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        Some(_) => Err(Problem::new(format!("{text:?} is more than a year"), "write at most \"366d\"")),
        None => Err(Problem::new(format!("{text:?} is no time"), example)),
    }
}

/// `"127.0.0.1:2525"` or `"[::1]:2525"`, with a port.
pub fn address(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let text = text(value)?;
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() != 0).ok_or_else(|| {
        Problem::new(
            format!("{text:?} is no address with a port"),
            "write an IP address and a port, such as \"127.0.0.1:2525\" or \"[::1]:2525\"",
        )
    })
}

/// An [`address`], or `"none"`.
pub fn address_or_none(value: &DeValue<'_>) -> Parsed<Option<SocketAddr>> {
    if value.as_str() == Some("none") { Ok(None) } else { address(value).map(Some) }
}

/// `"192.0.2.0/24"`, `"2001:db8::/32"`, or one address.
pub fn network(value: &DeValue<'_>) -> Parsed<IpNet> {
    let text = text(value)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        Problem::new(
            format!("{text:?} is no network"),
            "write an address and a prefix length, such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
        )
    })?;
    if network.trunc() != network {
        let advice =
            format!("write \"{}\" for the network, or only the address for one client", network.trunc());
        return Err(Problem::new(format!("{text:?} has bits set beyond its prefix"), advice));
    }
    Ok(network)
}

/// `"example.com"`, `".example.com"` or `"*"`.
pub fn domain(value: &DeValue<'_>) -> Parsed<DomainPattern> {
    let text = text(value)?;
    DomainPattern::parse(text).ok_or_else(|| {
        let advice = match text.strip_prefix("*.") {
            Some(below) if mail::address::is_domain(below) => {
                format!("write \".{below}\" for all domains below it")
            }
            _ => "write \"example.com\", \".example.com\" for all domains below it, or \"*\" for all".into(),
        };
        Problem::new(format!("{text:?} is no domain pattern"), advice)
    })
}

/// `"192.0.2.1:25"`, `"[2001:db8::1]:25"` or `"relay.example.com:25"`.
pub fn next_hop(value: &DeValue<'_>) -> Parsed<NextHop> {
    let text = text(value)?;
    let reachable = |hop: &NextHop| match hop {
        NextHop::Address(address) => address.port() != 0 && !address.ip().is_unspecified(),
        // A name of digits and dots is an address with a slip in it.
        NextHop::Name(name, port) => *port != 0 && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.'),
    };
    NextHop::parse(text).filter(reachable).ok_or_else(|| {
        Problem::new(
            format!("{text:?} is no next hop"),
            "write an address or a name and a port, such as \"192.0.2.1:25\" or \"relay.example.com:25\"",
        )
    })
}

/// The name of a user.
pub fn user_name(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = text(value)?;
    auth::name(text).map_err(|_| {
        let advice = format!("write up to {} bytes of printable characters", auth::NAME_BYTES_MAX);
        Problem::new(format!("{text:?} is no user name"), advice)
    })
}

/// The hash of a password.
pub fn password_hash(value: &DeValue<'_>) -> Parsed<PasswordHash> {
    let advice = "make one by mtad user add";
    // What stands there may be a password, which does not belong into a message.
    PasswordHash::parse(text(value)?).ok_or_else(|| Problem::new("is no argon2id hash", advice))
}

/// What SCRAM proofs are checked against.
pub fn scram_verifier(value: &DeValue<'_>) -> Parsed<ScramVerifier> {
    let advice = "make one by mtad user add";
    ScramVerifier::parse(text(value)?).ok_or_else(|| Problem::new("is no SCRAM-SHA-256 verifier", advice))
}

/// A key that this program has made.
pub fn key(value: &DeValue<'_>) -> Parsed<Option<Key>> {
    let advice = "remove it, and everything looks new to those who guess names";
    Key::parse(text(value)?).map(Some).ok_or_else(|| Problem::new("is no key of 32 bytes", advice))
}

/// Whom a user may send as.
pub fn sender(value: &DeValue<'_>) -> Parsed<Sender> {
    let text = text(value)?;
    Sender::parse(text).ok_or_else(|| {
        let advice = "write \"user@example.com\", \"example.com\", \".example.com\" or \"*\"";
        Problem::new(format!("{text:?} is neither an address nor a domain"), advice)
    })
}

/// A text that is not empty.
pub fn label(value: &DeValue<'_>) -> Parsed<Option<Box<str>>> {
    match text(value)? {
        "" => Err(Problem::new("is empty", "remove it, or write a name")),
        text => Ok(Some(text.into())),
    }
}

/// `"1000/1h"`.
pub fn rate(value: &DeValue<'_>) -> Parsed<Option<Rate>> {
    let text = text(value)?;
    let example = "write a number and a time, such as \"1000/1h\"";
    let parsed = text.split_once('/').and_then(|(count, per)| {
        let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
        let per = duration(&DeValue::String(per.into())).ok()?;
        Some(Rate { count, per })
    });
    parsed.map(Some).ok_or_else(|| Problem::new(format!("{text:?} is no rate"), example))
}

/// One of the words that the command line takes too.
pub fn choice<T: ValueEnum>(value: &DeValue<'_>) -> Parsed<T> {
    let text = text(value)?;
    T::from_str(text, false).map_err(|_| {
        let words: Vec<String> = T::value_variants().iter().map(word).collect();
        Problem::new(format!("{text:?} is unknown"), format!("write one of {}", words.join(", ")))
    })
}

/// One of some words.
pub fn word_of<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Parsed<T> {
    let text = text(value)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Problem::new(format!("{text:?} is unknown"), format!("write one of {}", words.join(", ")))
    })
}

/// A choice as it is written.
pub fn word<T: ValueEnum>(choice: &T) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
}

fn text<'v>(value: &'v DeValue<'_>) -> Parsed<&'v str> {
    value.as_str().ok_or_else(|| of_type(value, "a text", "write it in \"quotes\""))
}

/// A whole number; `None` when it is negative or too large.
fn integer(value: &DeValue<'_>) -> Parsed<Option<u64>> {
    let number =
        value.as_integer().ok_or_else(|| of_type(value, "a whole number", "write digits, without quotes"))?;
    Ok(u64::from_str_radix(number.as_str(), number.radix()).ok())
}

/// Bytes of a number and a unit; `None` when it is too large.
fn sized(text: &str) -> Parsed<Option<u64>> {
    let wrong = |advice: &str| Problem::new(format!("{text:?} is no size"), advice);
    let example = "write a number and B, KiB, MiB, GiB or TiB, such as \"25MiB\"";
    let (number, unit) = split_unit(text);
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "K" | "KB" | "kB" | "k" => return Err(wrong(&format!("write \"{number}KiB\""))),
        "M" | "MB" | "m" => return Err(wrong(&format!("write \"{number}MiB\""))),
        "G" | "GB" | "g" => return Err(wrong(&format!("write \"{number}GiB\""))),
        _ => return Err(wrong(example)),
    };
    if number.is_empty() || number.len() > 20 {
        return Err(wrong(example));
    }
    Ok(number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)))
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn of_type(value: &DeValue<'_>, wanted: &str, advice: &str) -> Problem {
    Problem::new(format!("is of type {} where {wanted} is wanted", value.type_str()), advice)
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(text) => format!("{text:?}"),
        other => other.type_str().into(),
    }
}

/// The greatest whole number that fits into `T`.
fn greatest<T: TryFrom<u64>>() -> u64 {
    let widths = [8, 16, 32, 63, 64].map(|bits: u32| u64::MAX >> (64 - bits));
    widths.into_iter().rev().find(|width| T::try_from(*width).is_ok()).unwrap_or(u64::MAX)
}
