//! Runs a piece of a test on a shard and brings its result back.
#![allow(dead_code, reason = "each test program uses a part")]

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use host::Host;
use host::ring_host::{DnsServers, HostStats, Options, RingHost, start};
use mail::Time;

/// No test takes longer, even on a machine that is busy with other things.
const TEST_MAX: Duration = Duration::from_secs(120);

/// Options for tests: no system configuration is looked at.
pub fn options() -> Options {
    let dns = DnsServers::List { servers: Vec::new(), timeout: Duration::from_secs(1), retries: 0 };
    Options { dns, ..Options::default() }
}

/// Runs `main` on a shard of its own until it ends.
pub fn on_shard<T, F, Fut>(options: Options, main: F) -> T
where
    T: Send + 'static,
    F: FnOnce(RingHost) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (ended, end) = mpsc::channel();
    let shard = start(options, move |host| async move {
        let result = main(host).await;
        ended.send(result).unwrap();
    });
    let shard = shard.unwrap();
    match end.recv_timeout(TEST_MAX) {
        Ok(result) => {
            shard.join().unwrap().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the shard hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match shard.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(outcome) => panic!("the shard ended with {outcome:?}"),
        },
    }
}

/// A time from now.
pub fn within(host: &RingHost, millis: u64) -> Time {
    host.now() + Duration::from_millis(millis)
}

/// Sleeps.
pub async fn pause(host: &RingHost, millis: u64) {
    host.sleep_until(within(host, millis)).await;
}

/// Waits until the statistics are as wanted, for at most ten seconds; returns the last.
pub async fn settle(host: &RingHost, wanted: impl Fn(&HostStats) -> bool) -> HostStats {
    for _ in 0..1000 {
        if wanted(&host.stats()) {
            break;
        }
        pause(host, 10).await;
    }
    host.stats()
}

/// An empty directory of this test's own.
pub fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
