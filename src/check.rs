//! Says in words what a configuration means.

use crate::configuration::{Settings, pattern_text, word};
use crate::log;
use shard::config::{
    Auth, Bounce, Chunking, Config, DomainPattern, EightBit, Listen, Reception, Retry, Route,
};
use std::fmt::{self, Write};
use std::time::Duration;

/// Width of the column of names.
const NAME_WIDTH: usize = 12;

/// The summary of `settings`.
pub fn explain(settings: &Settings) -> String {
    let mut out = String::new();
    describe(&mut out, settings).expect("a String takes all that is written");
    out
}

fn describe(out: &mut String, settings: &Settings) -> fmt::Result {
    let relay = &settings.relay;
    row(out, "hostname", &relay.hostname)?;
    let spool = &relay.spool;
    row(out, "spool", &format!("{}, in segments of {}", spool.path.display(), bytes(spool.segment_bytes)))?;
    row(
        out,
        "",
        &format!(
            "up to {} deliveries waiting and {} spare segments per shard",
            spool.deliveries_max, spool.spares_max
        ),
    )?;
    row(
        out,
        "",
        &format!(
            "452 when less than {} or {} inodes, or less than {}% of either, are free",
            bytes(spool.free_bytes_min),
            spool.free_inodes_min,
            spool.free_percent_min
        ),
    )?;
    row(
        out,
        "",
        &format!(
            "up to {} damaged segments and {} of them kept per shard",
            spool.damaged_max,
            bytes(spool.damaged_bytes_max)
        ),
    )?;
    if spool.allow_volatile {
        row(out, "", "also on a file system that forgets at power loss")?;
    }
    for listen in &relay.listen {
        describe_listener(out, listen)?;
    }
    describe_routes(out, relay)?;
    describe_retry(out, &relay.retry)?;
    describe_reception(out, &relay.reception)?;
    describe_delivery(out, relay)?;
    describe_auth(out, &relay.auth)?;
    describe_bounce(out, &relay.bounce)?;
    match settings.metrics {
        Some(address) => row(out, "metrics", &format!("http://{address}/metrics, /health and /ready"))?,
        None => row(out, "metrics", "none")?,
    }
    let log::Settings { format, level } = settings.log;
    row(out, "log", &format!("{}, from level {} on", word(&format), word(&level)))
}

fn describe_listener(out: &mut String, listen: &Listen) -> fmt::Result {
    row(out, "listen", &listen.address.to_string())?;
    let networks: Vec<String> = listen.relay_from.iter().map(ToString::to_string).collect();
    match &networks[..] {
        [] => row(out, "", "no client may send to every domain")?,
        networks => row(out, "", &format!("clients in {} may send to every domain", sequence(networks)))?,
    }
    let domains: Vec<String> = listen.relay_to.iter().map(domain_words).collect();
    match &domains[..] {
        [] => row(out, "", "other clients are refused")?,
        domains => row(out, "", &format!("other clients may send to {}", sequence(domains)))?,
    }
    let Some(terms) = listen.auth else { return Ok(()) };
    let who = if terms.required {
        "every client must log in"
    } else {
        "clients that log in may send to every domain"
    };
    let how = if terms.without_tls { "also without TLS" } else { "within TLS only" };
    row(out, "", &format!("{who}, {how}"))
}

fn describe_auth(out: &mut String, auth: &Auth) -> fmt::Result {
    let Some(users) = &auth.users else { return Ok(()) };
    row(out, "auth", &format!("users in {}", users.display()))?;
    let guard = &auth.guard;
    row(
        out,
        "",
        &format!(
            "{} failures per shard shut a network or user out for {}; each waits {} up to {}",
            guard.failures_max,
            time(guard.lockout),
            time(guard.delay),
            time(guard.delay_max)
        ),
    )?;
    row(
        out,
        "",
        &format!(
            "{} threads check passwords, {} wait at most; a right one need not be checked again for {}",
            auth.workers,
            auth.waiting_max,
            time(auth.verified_for)
        ),
    )
}

fn describe_routes(out: &mut String, relay: &Config) -> fmt::Result {
    let mut name = "routes";
    for route in by_precedence(&relay.routes) {
        let hops: Vec<String> = route.to.iter().map(ToString::to_string).collect();
        row(out, name, &format!("{} to {}", domain_words(&route.domain), hops.join(", then ")))?;
        name = "";
    }
    match relay.routes.iter().any(|route| route.domain == DomainPattern::Any) {
        true => Ok(()),
        false if relay.routes.is_empty() => {
            row(out, name, &format!("every domain to its mail exchangers (MX), port {}", relay.delivery.port))
        }
        false => row(
            out,
            name,
            &format!("every other domain to its mail exchangers (MX), port {}", relay.delivery.port),
        ),
    }
}

/// The routes in the order in which they are looked at: exact domains, then suffixes from the longest on, then all.
fn by_precedence(routes: &[Route]) -> Vec<&Route> {
    let mut routes: Vec<&Route> = routes.iter().collect();
    let rank = |route: &Route| match &route.domain {
        DomainPattern::Exact(_) => usize::MAX,
        DomainPattern::Below(below) => below.len(),
        DomainPattern::Any => 0,
    };
    routes.sort_by_key(|route| std::cmp::Reverse(rank(route)));
    routes
}

fn describe_retry(out: &mut String, retry: &Retry) -> fmt::Result {
    let intervals: Vec<String> = retry.intervals.iter().map(|interval| time(*interval)).collect();
    let last = intervals.last().map_or("", String::as_str);
    row(
        out,
        "retry",
        &format!(
            "after {}, then every {last}, until {} after reception",
            sequence(&intervals),
            time(retry.max_age)
        ),
    )?;
    match retry.jitter_percent {
        0 => row(out, "", &format!("{} attempts at most", attempts(retry))),
        percent => row(
            out,
            "",
            &format!(
                "about {} attempts at most; each wait is moved by up to {percent}% at random",
                attempts(retry)
            ),
        ),
    }
}

/// How often a message that is always deferred is tried, without jitter and the time that an attempt takes.
fn attempts(retry: &Retry) -> u64 {
    let (mut age, mut attempts) = (Duration::ZERO, 1);
    for interval in &retry.intervals {
        age += *interval;
        if age >= retry.max_age {
            return attempts;
        }
        attempts += 1;
    }
    let last = retry.intervals.last().map_or(u128::MAX, |last| last.as_millis().max(1));
    let rest = (retry.max_age - age).as_millis().saturating_sub(1);
    attempts + u64::try_from(rest / last).unwrap_or(u64::MAX)
}

fn describe_reception(out: &mut String, reception: &Reception) -> fmt::Result {
    row(
        out,
        "reception",
        &format!(
            "messages up to {}, {} recipients and {} hops",
            bytes(reception.message_bytes_max),
            reception.recipients_max,
            reception.hops_max
        ),
    )?;
    row(
        out,
        "",
        &format!(
            "per shard {} connections and {} for contents; {} refused commands per session",
            reception.connections_max,
            bytes(reception.body_memory as u64),
            reception.errors_max
        ),
    )?;
    let (command, data) = (time(reception.command_timeout), time(reception.data_timeout));
    row(out, "", &format!("waits {command} for a command and {data} for content"))
}

fn describe_delivery(out: &mut String, relay: &Config) -> fmt::Result {
    let delivery = &relay.delivery;
    row(
        out,
        "delivery",
        &format!(
            "per destination {} connections, per shard {}; {} recipients per transaction, {} transactions per connection{}",
            delivery.connections_max,
            delivery.shard_connections_max,
            delivery.recipients_max,
            delivery.transactions_max,
            if delivery.pipeline_messages { ", pipelined" } else { "" }
        ),
    )?;
    let chunks = match delivery.chunking {
        Chunking::Auto => "BDAT for binary content only",
        Chunking::Always => "BDAT wherever it is offered",
        Chunking::Never => "never BDAT",
    };
    let eight_bit = match delivery.eight_bit {
        EightBit::Bounce => "returned to its sender",
        EightBit::Send => "sent all the same",
    };
    row(out, "", &format!("{chunks}; 8-bit content without 8BITMIME is {eight_bit}"))?;
    row(
        out,
        "",
        &format!(
            "waits {} to connect, {} for a reply, {} after DATA, {} after the content, {} for more mail",
            time(delivery.connect_timeout),
            time(delivery.reply_timeout),
            time(delivery.data_timeout),
            time(delivery.final_timeout),
            time(delivery.idle_timeout)
        ),
    )
}

fn describe_bounce(out: &mut String, bounce: &Bounce) -> fmt::Result {
    let who = if bounce.delay_reports { "did not say otherwise" } else { "asked for it" };
    let (after, whole) = (time(bounce.delay_after), bytes(bounce.return_bytes_max as u64));
    row(
        out,
        "bounce",
        &format!("told of a delay after {after}: senders who {who}; up to {whole} come back whole"),
    )
}

fn row(out: &mut String, name: &str, text: &str) -> fmt::Result {
    writeln!(out, "{name:<NAME_WIDTH$}{text}")
}

fn domain_words(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::Exact(_) => pattern_text(pattern),
        DomainPattern::Below(domain) => format!("every domain below {domain}"),
        DomainPattern::Any => "every domain".into(),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn sequence(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A size in the largest unit that divides it.
fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// A time in the largest unit that divides it.
fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units =
        [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"), (1, "millisecond")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| millis >= *size && millis.is_multiple_of(*size))
        .unwrap_or((1, "millisecond"));
    let count = millis / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_in_the_largest_whole_unit() {
        for (millis, words) in [
            (1, "1 millisecond"),
            (1500, "1500 milliseconds"),
            (60_000, "1 minute"),
            (90_000, "90 seconds"),
            (432_000_000, "5 days"),
        ] {
            assert_eq!(time(Duration::from_millis(millis)), words);
        }
        for (size, words) in
            [(1, "1 bytes"), (1024, "1 KiB"), (1 << 20, "1 MiB"), ((1 << 20) + 1, "1048577 bytes")]
        {
            assert_eq!(bytes(size), words);
        }
    }

    #[test]
    fn attempts_are_counted_as_the_schedule_makes_them() {
        let seconds = Duration::from_secs;
        for (intervals, max_age, expected) in [
            (vec![2, 5, 10], 100, 12),
            (vec![2, 5, 10], 17, 3),
            (vec![2, 5, 10], 18, 4),
            (vec![2, 5], 2, 1),
            (vec![10], 31, 4),
        ] {
            let retry = Retry {
                intervals: intervals.iter().map(|s| seconds(*s)).collect(),
                max_age: seconds(max_age),
                jitter_percent: 0,
            };
            // The same by walking through time.
            let (mut age, mut walked) = (0, 1);
            while let Some(interval) =
                intervals.get(walked - 1).or(intervals.last()).filter(|i| age + **i < max_age)
            {
                age += interval;
                walked += 1;
            }
            assert_eq!((attempts(&retry), walked as u64), (expected, expected), "{intervals:?} {max_age}");
        }
    }
}
