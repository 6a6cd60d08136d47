//! What the kernel gives: its version, io_uring, limits.

use super::{Check, Verdict};

/// The release that has all that is used of io_uring: multishot receive came with 6.0.
const KERNEL_MIN: (u32, u32) = (6, 0);
/// Descriptors beside connections of clients: spool, rings, next hops, metrics.
const FILES_BESIDE: u64 = 1024;

/// All checks of the kernel, for so many connections per shard.
pub fn checks(connections_max: usize) -> Vec<Check> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let mut checks = vec![
        version(&read("/proc/sys/kernel/osrelease")),
        sysctl(&read("/proc/sys/kernel/io_uring_disabled")),
        seccomp(&read("/proc/self/status")),
        open_files(open_files_limit().1, connections_max),
    ];
    checks.extend(features());
    checks
}

/// Limits and each feature of io_uring that the host uses, tried out there.
fn features() -> Vec<Check> {
    let check = |finding: host::ring_host::Finding| {
        let verdict = if finding.ok { Verdict::Ok } else { Verdict::Missing };
        Check { name: finding.name.into(), verdict, seen: finding.advice, advice: String::new() }
    };
    host::ring_host::probe().into_iter().map(check).collect()
}

fn version(release: &str) -> Check {
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN {
        Check::ok("kernel", format!("Linux {release}"))
    } else {
        let advice = format!("run Linux {}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1);
        Check::warning("kernel", format!("Linux {release} lacks parts of io_uring"), advice)
    }
}

/// Whether processes may use io_uring at all. A kernel before 6.6 has no such switch.
fn sysctl(value: &str) -> Check {
    let name = "kernel.io_uring_disabled";
    match value.trim() {
        "" => Check::ok(name, "is not there, so io_uring is not switched off"),
        "0" => Check::ok(name, "0"),
        "1" => Check::warning(
            name,
            "1: io_uring is only for CAP_SYS_ADMIN and the group kernel.io_uring_group",
            "put mtad's user into that group, or sysctl -w kernel.io_uring_disabled=0",
        ),
        other => Check::missing(
            name,
            format!("{other}: io_uring is switched off"),
            "sysctl -w kernel.io_uring_disabled=0, and in /etc/sysctl.d to keep it",
        ),
    }
}

/// A filter of system calls does no harm by itself; when io_uring is denied, it is the likely reason.
fn seccomp(status: &str) -> Check {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    match mode {
        Some("0") => Check::ok("seccomp", "no filter"),
        Some("2") => {
            Check::ok("seccomp", "a filter; it must allow io_uring_setup, io_uring_enter, io_uring_register")
        }
        Some("1") => Check::missing("seccomp", "strict mode", "run without it"),
        _ => Check::ok("seccomp", "unknown to this kernel"),
    }
}

/// The hard limit counts, because the soft one is raised to it at start.
fn open_files(hard: u64, connections_max: usize) -> Check {
    let wanted = connections_max as u64 + FILES_BESIDE;
    if hard >= wanted {
        return Check::ok("open files", format!("{hard}"));
    }
    Check::warning(
        "open files",
        format!("{hard} are too few for {connections_max} connections on one shard"),
        format!("LimitNOFILE=1048576 (systemd) or ulimit -Hn {wanted}, or lower reception.connections_max"),
    )
}

/// Soft and hard limit of open files; 0 when the kernel does not say.
fn open_files_limit() -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes of its type.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Raises the soft limit of open files to the hard one. When the kernel refuses, the old one stays.
pub fn raise_open_files() {
    let (soft, hard) = open_files_limit();
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `raised` is a valid limit, not above the hard one.
    if soft < hard && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } != 0 {
        tracing::warn!(soft, hard, "the limit of open files could not be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (release, verdict) in [
            ("6.18.44-fc\n", Verdict::Ok),
            ("6.0", Verdict::Ok),
            ("10.1", Verdict::Ok),
            ("5.19.0-50-generic", Verdict::Warning),
            ("", Verdict::Warning),
        ] {
            assert_eq!(version(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn io_uring_switched_off_is_missing() {
        let verdicts = ["", "0\n", "1\n", "2\n"].map(|value| sysctl(value).verdict);
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Warning, Verdict::Missing]);
    }

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_to_do() {
        assert_eq!(open_files(1 << 20, 20_000).verdict, Verdict::Ok);
        assert!(open_files(4096, 20_000).advice.contains("ulimit -Hn 21024"));
    }

    #[test]
    fn seccomp_is_read_from_the_status() {
        assert_eq!(seccomp("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n").seen, "no filter");
        assert!(seccomp("Seccomp:\t2\n").seen.contains("io_uring_setup"));
    }
}
