use super::*;
use shard::metrics::Metrics;
use spool::Alarm;
use std::collections::BTreeMap;
use std::time::Duration;

/// A sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Families in order: name, type, samples.
type Families = Vec<(String, String, Vec<Sample>)>;

/// Parses the text format as its description has it, and panics at anything else: HELP, then TYPE, then the
/// samples of that name, each family and each sample once, a line feed at the end.
fn parse(text: &str) -> Families {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut families: Families = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(is_name(name) && !help.trim().is_empty(), "{line}");
        assert!(families.iter().all(|(other, _, _)| other != name), "declared twice: {line}");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(name);
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
        let mut samples: Vec<Sample> = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = parse_sample(line);
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| sample.0 == format!("{name}{suffix}")),
                "{line} below {name}"
            );
            assert!(
                samples.iter().all(|other| (&other.0, &other.1) != (&sample.0, &sample.1)),
                "twice: {line}"
            );
            samples.push(sample);
        }
        families.push((name.into(), kind.into(), samples));
    }
    families
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
        None => (series, ""),
    };
    assert!(is_name(name), "{line}");
    let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once("=\"").expect(line);
        let value = value.strip_suffix('"').expect(line);
        assert!(is_name(key) && !key.contains(':') && !value.contains(['"', '\\', '\n']), "{line}");
        (key.to_string(), value.to_string())
    });
    (name.into(), pairs.collect(), value.parse().expect(line))
}

fn is_name(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(of_name)
}

fn process() -> Process {
    Process { cpu_seconds: 1.5, resident_bytes: 4096, open_files: 9, log_lines_dropped: 2 }
}

fn snapshots() -> Vec<Snapshot> {
    let snapshot = |shard: u64| {
        let metrics = Metrics::default();
        metrics.count.messages_accepted.add(10 + shard);
        for micros in [50, 1_000, 1_001, 40_000, 7_200_000_000] {
            metrics.record(Stage::Durable, Duration::from_micros(micros));
        }
        let mut gauges = vec![("spool_failed", "Whether the spool\nhas \\ failed.", shard)];
        gauges.extend((shard == 1).then_some(("only_here", "Known to the second shard only.", 5)));
        Snapshot {
            shard: shard as usize,
            counters: metrics.count.list(),
            gauges,
            latencies: metrics.latencies(),
            takes_mail: shard == 0,
            alarms: vec![Alarm {
                log: 1,
                cause: Cause::Full,
                since: mail::WallTime(0),
                times: 2,
                what: "no room".into(),
            }],
        }
    };
    vec![snapshot(0), snapshot(1)]
}

fn samples<'f>(families: &'f Families, name: &str) -> &'f [Sample] {
    &families.iter().find(|(other, _, _)| other == name).expect(name).2
}

#[test]
fn every_counter_gauge_and_latency_is_there_for_every_shard() {
    let families = parse(&write(&snapshots(), &process()));
    for (name, _, _) in Metrics::default().count.list() {
        assert_eq!(samples(&families, &format!("mtad_{name}_total")).len(), 2, "{name}");
    }
    let accepted: Vec<(&str, f64)> = samples(&families, "mtad_messages_accepted_total")
        .iter()
        .map(|(_, labels, value)| (labels["shard"].as_str(), *value))
        .collect();
    assert_eq!(accepted, [("0", 10.0), ("1", 11.0)]);
    assert_eq!(samples(&families, "mtad_spool_failed")[1].2, 1.0);
    assert_eq!(samples(&families, "mtad_only_here").len(), 1);
    let alarms = samples(&families, "mtad_alarms");
    assert_eq!(alarms.len(), 2 * Cause::ALL.len());
    let raised: Vec<_> = alarms.iter().filter(|alarm| alarm.2 > 0.0).map(|alarm| &alarm.1["cause"]).collect();
    assert_eq!(raised, ["full", "full"]);
    assert_eq!(samples(&families, "mtad_build_info")[0].1["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(samples(&families, "process_cpu_seconds_total")[0].2, 1.5);
    for (name, kind, _) in &families {
        let is_counter = name.ends_with("_total");
        assert_eq!(is_counter, kind == "counter", "{name}");
    }
    for (name, _) in Stage::ALL {
        let name = format!("mtad_{}_seconds", name.trim_end_matches("_microseconds"));
        assert_eq!(samples(&families, &name).len(), 2 * (BOUNDS_US.len() + 3), "{name}");
    }
}

#[test]
fn buckets_grow_up_to_the_count_and_hold_what_is_at_their_bound() {
    let families = parse(&write(&snapshots(), &process()));
    let of_shard = |sample: &&Sample| sample.1["shard"] == "1";
    let durable: Vec<&Sample> = samples(&families, "mtad_durable_seconds").iter().filter(of_shard).collect();
    let buckets: Vec<(f64, f64)> = durable
        .iter()
        .filter_map(|(_, labels, value)| {
            Some((labels.get("le")?.replace("+Inf", "inf").parse().unwrap(), *value))
        })
        .collect();
    assert!(buckets.is_sorted(), "{buckets:?}");
    let at = |bound: f64| buckets.iter().find(|(le, _)| *le == bound).expect("the bound is a bucket").1;
    assert_eq!((at(0.0001), at(0.0005), at(0.001), at(0.05)), (1.0, 1.0, 3.0, 4.0));
    assert_eq!((at(600.0), at(f64::INFINITY)), (4.0, 5.0));
    let last = |suffix: &str| durable.iter().find(|sample| sample.0.ends_with(suffix)).expect("is there").2;
    assert_eq!(last("_count"), 5.0);
    assert!((last("_sum") / 3600.042 - 1.0).abs() < 0.01, "{}", last("_sum"));
}

#[test]
fn no_shard_that_answers_still_gives_the_process() {
    let families = parse(&write(&[], &process()));
    assert_eq!(samples(&families, "process_open_fds")[0].2, 9.0);
    assert!(samples(&families, "mtad_durable_seconds").is_empty());
}

#[test]
fn this_process_has_used_something() {
    let process = Process::look();
    assert!(process.cpu_seconds > 0.0 && process.resident_bytes > 0 && process.open_files > 0);
}
