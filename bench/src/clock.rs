//! The rig's one clock: nanoseconds since 1970 that never step back within a process.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One millisecond in nanoseconds.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds since 1970. Anchored to the wall clock once per process and monotonic after that, so that a
/// load and a sink in different processes of one machine can compare stamps and no adjustment of the wall
/// clock falsifies a latency.
#[expect(clippy::disallowed_methods, reason = "the rig measures real time; it never runs on a shard")]
pub fn now() -> u64 {
    static ANCHOR: OnceLock<(Instant, u64)> = OnceLock::new();
    let (anchor, epoch) = *ANCHOR.get_or_init(|| {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), nanoseconds(epoch))
    });
    epoch + nanoseconds(anchor.elapsed())
}

/// Blocks the calling thread, which is never one that carries load.
#[expect(clippy::disallowed_methods, reason = "a thread of the rig may block")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A duration as whole nanoseconds; longer than 584 years is clipped.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
