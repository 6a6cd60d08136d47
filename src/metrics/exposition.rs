//! Snapshots in the text format of Prometheus (version 0.0.4).

use hdrhistogram::Histogram;
use shard::metrics::{Snapshot, Stage};
use spool::Cause;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Upper bounds of the buckets of latencies, in microseconds: from below a synced write to an hour.
const BOUNDS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// The process as a whole.
pub struct Process {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Log records that were dropped.
    pub log_lines_dropped: u64,
}

impl Process {
    /// Looks at this process. What cannot be read is 0.
    pub fn look() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Process {
            cpu_seconds: cpu_seconds(),
            resident_bytes: kib.unwrap_or(0) * 1024,
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            log_lines_dropped: crate::log::lines_dropped(),
        }
    }
}

fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writes of its type, and all zeros are a value of it even if the call fails.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Writes all metrics. A name is declared once, with the values of all shards below.
pub fn write(snapshots: &[Snapshot], process: &Process) -> String {
    let mut out = String::with_capacity(4096 + 16_384 * snapshots.len());
    write_process(&mut out, process);
    write_values(&mut out, "counter", "_total", snapshots, |snapshot| &snapshot.counters);
    write_values(&mut out, "gauge", "", snapshots, |snapshot| &snapshot.gauges);
    write_alarms(&mut out, snapshots);
    for (stage, (name, help)) in Stage::ALL.iter().enumerate() {
        // Prometheus counts in seconds, whatever we do inside.
        let name = format!("mtad_{}_seconds", name.trim_end_matches("_microseconds"));
        declare(&mut out, &name, help, "histogram");
        for snapshot in snapshots {
            if let Some(histogram) = snapshot.latencies.get(stage) {
                write_histogram(&mut out, &name, snapshot.shard, histogram);
            }
        }
    }
    out
}

fn write_process(out: &mut String, process: &Process) {
    declare(out, "mtad_build_info", "The version that runs, as a label.", "gauge");
    line(out, "mtad_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
    declare(out, "process_cpu_seconds_total", "User and system time of all threads.", "counter");
    line(out, "process_cpu_seconds_total", "", process.cpu_seconds);
    declare(out, "process_resident_memory_bytes", "Memory in RAM.", "gauge");
    line(out, "process_resident_memory_bytes", "", process.resident_bytes);
    declare(out, "process_open_fds", "Open descriptors.", "gauge");
    line(out, "process_open_fds", "", process.open_files);
    declare(
        out,
        "mtad_log_lines_dropped_total",
        "Log records dropped because standard error was slow.",
        "counter",
    );
    line(out, "mtad_log_lines_dropped_total", "", process.log_lines_dropped);
}

type Values = Vec<(&'static str, &'static str, u64)>;

fn write_values(
    out: &mut String,
    kind: &str,
    suffix: &str,
    snapshots: &[Snapshot],
    values: fn(&Snapshot) -> &Values,
) {
    let mut written = BTreeSet::new();
    for (name, help, _) in snapshots.iter().flat_map(values) {
        if !written.insert(name) {
            continue;
        }
        let full = format!("mtad_{name}{suffix}");
        declare(out, &full, help, kind);
        for snapshot in snapshots {
            if let Some((_, _, value)) = values(snapshot).iter().find(|(other, _, _)| other == name) {
                line(out, &full, &format!("shard=\"{}\"", snapshot.shard), value);
            }
        }
    }
}

/// One line for each cause, also when there is no alarm, so that a rule in a monitor has something to resolve with.
fn write_alarms(out: &mut String, snapshots: &[Snapshot]) {
    declare(out, "mtad_alarms", "Logs with an alarm, by its cause.", "gauge");
    for snapshot in snapshots {
        for cause in Cause::ALL {
            let count = snapshot.alarms.iter().filter(|alarm| alarm.cause == cause).count();
            line(out, "mtad_alarms", &format!("shard=\"{}\",cause=\"{cause}\"", snapshot.shard), count);
        }
    }
}

fn write_histogram(out: &mut String, name: &str, shard: usize, histogram: &Histogram<u64>) {
    let mut counts = [0_u64; BOUNDS_US.len()];
    let (mut all, mut sum) = (0_u64, 0_u128);
    for step in histogram.iter_recorded() {
        let value = histogram.lowest_equivalent(step.value_iterated_to());
        let count = step.count_since_last_iteration();
        if let Some(bucket) = BOUNDS_US.iter().position(|bound| value <= *bound) {
            counts[bucket] += count;
        }
        all += count;
        sum += u128::from(histogram.median_equivalent(value)) * u128::from(count);
    }
    let bucket_name = format!("{name}_bucket");
    let mut below = 0;
    for (bound, count) in BOUNDS_US.iter().zip(counts) {
        below += count;
        line(out, &bucket_name, &format!("shard=\"{shard}\",le=\"{}\"", *bound as f64 / 1e6), below);
    }
    line(out, &bucket_name, &format!("shard=\"{shard}\",le=\"+Inf\""), all);
    line(out, &format!("{name}_sum"), &format!("shard=\"{shard}\""), sum as f64 / 1e6);
    line(out, &format!("{name}_count"), &format!("shard=\"{shard}\""), all);
}

fn declare(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.trim().replace('\\', "\\\\").replace('\n', "\\n");
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all that is written");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(out, "{name}{labels} {value}").expect("a String takes all that is written");
}

#[cfg(test)]
mod tests;
