//! A target seen from outside.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and sleep")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bench::observe::{Observer, Target};
use bench::sink::{self, Behaviour, Listener};
use bench::{load, run};

/// Ends with the test.
struct Busy(Child);

impl Busy {
    /// A process that reads and writes single bytes.
    fn start() -> Self {
        let arguments = ["if=/dev/zero", "of=/dev/null", "bs=1"];
        Self(Command::new("dd").args(arguments).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config() -> run::Config {
    let probe = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = probe.local_addr().unwrap();
    run::Config {
        load: load::Config { target: address, messages: 500, rate: Some(400.0), ..load::Config::default() },
        sink: sink::Config {
            listeners: vec![Listener { address, behaviour: Behaviour::default() }],
            ..sink::Config::default()
        },
        ..run::Config::default()
    }
}

#[test]
fn a_run_observes_its_own_process() {
    let report = run::run(run::Config { pids: vec![std::process::id()], ..config() }, |_| {}).unwrap();
    let target = report.cost.target.unwrap();
    assert!(target.spent.processes >= 1 && target.rss_max > 1 << 20 && target.pss > 1 << 20, "{target:?}");
    assert!(report.cost.target_cpu.unwrap() > 0.0 && report.cost.target_switches.unwrap() > 0.0);
    let first = report.timeline[0];
    assert!(first.target_rss.unwrap() > 1 << 20);
    assert!(first.target_cpu.is_some_and(|percent| (0.0..1000.0).contains(&percent)), "{first:?}");
    assert!(report.cost.cgroup.is_none() && report.cost.device.is_none() && report.cost.calls.is_none());
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["timeline"][0]["target_rss"].as_u64(), first.target_rss);
}

#[test]
fn a_run_reads_a_control_group() {
    // Files as the kernel has them, which no test may ask of the machine.
    let group = std::env::temp_dir().join(format!("mtad-bench-group-{}", std::process::id()));
    std::fs::create_dir_all(&group).unwrap();
    std::fs::write(group.join("cpu.stat"), "usage_usec 1000\nuser_usec 600\nsystem_usec 400\n").unwrap();
    std::fs::write(group.join("memory.current"), "2097152\n").unwrap();
    let observer = Observer::start(&Target { cgroup: Some(group.clone()), ..Target::default() }).unwrap();
    std::fs::write(group.join("cpu.stat"), "usage_usec 6000\nuser_usec 600\nsystem_usec 5400\n").unwrap();
    let seen = observer.finish().unwrap().cgroup.unwrap();
    assert_eq!((seen.cpu, seen.user, seen.system), (Some(5000), Some(0), Some(5000)));
    assert_eq!((seen.memory, seen.memory_peak, seen.written), (Some(2_097_152), None, None));

    let mut config = run::Config { cgroup: Some(group.clone()), ..config() };
    config.load.messages = 100;
    let report = run::run(config, |_| {}).unwrap();
    assert!(report.to_string().contains("cgroup       CPU 0.0 us per message, memory 2.0 MiB\n"), "{report}");
    std::fs::remove_dir_all(&group).unwrap();
}

#[test]
fn flushes_of_a_device_are_seen() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let target = Target { device_of: Some(directory.clone()), ..Target::default() };
    // Not every machine has its files on a device; then the reason is said.
    let observer = match Observer::start(&target) {
        Ok(observer) => observer,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let file = directory.join(format!("flushed-{}", std::process::id()));
    for turn in 0..5 {
        std::fs::write(&file, vec![turn; 100_000]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    let device = observer.finish().unwrap().device.unwrap();
    assert!(device.writes >= 5 && device.written >= 500_000, "{device:?}");
}

#[test]
fn system_calls_are_counted_by_name() {
    let busy = Busy::start();
    let target = Target { pids: vec![busy.0.id()], count_calls: true, ..Target::default() };
    let observer = match Observer::start(&target) {
        Ok(observer) => observer,
        // Without strace, or without the right to trace, that is what it says.
        Err(error) => return assert!(error.to_string().starts_with("strace "), "{error}"),
    };
    thread::sleep(Duration::from_millis(300));
    let calls = observer.finish().unwrap().calls.unwrap();
    assert!(calls["read"] > 100 && calls["write"] > 100, "{calls:?}");
    assert!(calls["read"].abs_diff(calls["write"]) <= 1, "{calls:?}");
}

#[test]
fn what_cannot_be_observed_is_said_before_the_run() {
    let wrong = [
        Target { pids: vec![u32::MAX - 1], ..Target::default() },
        Target { cgroup: Some("no/such/group".into()), ..Target::default() },
        Target { device_of: Some("/no/such/path".into()), ..Target::default() },
        Target { count_calls: true, ..Target::default() },
    ];
    for target in wrong {
        assert!(Observer::start(&target).is_err(), "{target:?}");
    }
}
