//! Whether this machine has what the relay needs: `mtad doctor` looks at everything, a start at the needs only.

mod disk;
mod file_system;
mod kernel;

use crate::configuration::Settings;
use shard::config::Config;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The relay runs, and somebody should know.
    Warning,
    /// The relay cannot or must not run.
    Missing,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    name: String,
    verdict: Verdict,
    /// What was seen.
    seen: String,
    /// What to do; empty when all is well.
    advice: String,
}

impl Check {
    fn ok(name: &str, seen: impl Into<String>) -> Check {
        Check { name: name.into(), verdict: Verdict::Ok, seen: seen.into(), advice: String::new() }
    }

    fn warning(name: &str, seen: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name: name.into(), verdict: Verdict::Warning, seen: seen.into(), advice: advice.into() }
    }

    fn missing(name: &str, seen: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name: name.into(), verdict: Verdict::Missing, seen: seen.into(), advice: advice.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.seen)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

/// All checks, the slow ones too, for `mtad doctor`.
pub fn examine(settings: &Settings) -> Vec<Check> {
    let relay = &settings.relay;
    let mut checks = kernel::checks(relay.reception.connections_max + relay.delivery.shard_connections_max);
    checks.extend(disk::checks(&relay.spool));
    checks.extend(disk::space(&relay.spool));
    checks.push(disk::sync_latency(&relay.spool));
    checks.extend(relay.listen.iter().map(|listener| can_listen("listen", listener.address)));
    checks.extend(settings.metrics.map(|address| can_listen("metrics", address)));
    checks
}

/// Whether the relay can start with `relay`, or each reason why not. Writes one small file and removes it.
pub fn needs(relay: &Config) -> Result<(), Vec<String>> {
    let mut checks = kernel::checks(relay.reception.connections_max + relay.delivery.shard_connections_max);
    checks.extend(disk::checks(&relay.spool));
    checks.extend(relay.listen.iter().map(|listener| can_listen("listen", listener.address)));
    for check in checks.iter().filter(|check| check.verdict == Verdict::Warning) {
        tracing::warn!(check = check.name, "{}; {}", check.seen, check.advice);
    }
    let missing: Vec<String> =
        checks.iter().filter(|check| check.verdict == Verdict::Missing).map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// Raises the soft limit of open files to the hard one, as far as the kernel lets us.
pub use kernel::raise_open_files;

/// The checks as a table with a last line that sums up, and whether nothing is missing.
pub fn report(checks: &[Check]) -> (String, bool) {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut table = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "missing",
        };
        let advice = if check.advice.is_empty() { String::new() } else { format!("; {}", check.advice) };
        table += &format!("{verdict:<7}  {:<width$}  {}{advice}\n", check.name, check.seen);
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (warnings, missing) = (count(Verdict::Warning), count(Verdict::Missing));
    table += &match missing {
        0 => format!("\nThe relay can run here. Warnings: {warnings}.\n"),
        _ => format!("\nThe relay cannot run here. Missing: {missing}, warnings: {warnings}.\n"),
    };
    (table, missing == 0)
}

/// How long an address may stay in use after its relay was killed: the kernel takes rings apart, and so closes
/// what they listen at, a moment after the process has ended.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

/// Whether `address` is free for us. Asked without SO_REUSEPORT: a second relay would otherwise quietly take half
/// of the connections of the first.
fn can_listen(name: &str, address: SocketAddr) -> Check {
    let name = format!("{name} {address}");
    let Err(error) = listen_once(address) else { return Check::ok(&name, "is free") };
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "stop what listens there (ss -ltnp shows it), or choose another".into(),
        ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (config/mtad.service gives it)".into()
        }
        ErrorKind::AddrNotAvailable => "choose an address of this machine".into(),
        _ => format!("choose another address ({error})"),
    };
    Check::missing(&name, "cannot be listened at", advice)
}

fn listen_once(address: SocketAddr) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < RELEASE_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            bound => return bound.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_sums_up() {
        let checks = [
            Check::ok("kernel", "6.18"),
            Check::warning("spool sync", "1 us", "ask the disk"),
            Check::missing("io_uring", "denied", "allow it"),
        ];
        let table = "ok       kernel      6.18\n\
                     warning  spool sync  1 us; ask the disk\n\
                     missing  io_uring    denied; allow it\n\
                     \nThe relay cannot run here. Missing: 1, warnings: 1.\n";
        assert_eq!(report(&checks), (table.into(), false));
        assert!(report(&checks[..2]).1);
    }

    #[test]
    fn an_address_in_use_is_missing() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(can_listen("listen", address).verdict, Verdict::Missing);
        drop(taken);
        assert_eq!(can_listen("listen", address), Check::ok(&format!("listen {address}"), "is free"));
        let released = TcpListener::bind(address).unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(RELEASE_WAIT / 10);
            drop(released);
        });
        assert_eq!(can_listen("listen", address).verdict, Verdict::Ok, "it was released meanwhile");
        late.join().unwrap();
        assert_eq!(can_listen("listen", "192.0.2.1:2525".parse().unwrap()).verdict, Verdict::Missing);
    }
}
