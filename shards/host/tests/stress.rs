//! A shard among more CPU hogs than there are cores. Alone in its program, so that other tests do not count as hogs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::{Conn, Host, Listener};
use mail::Time;
use shard::{on_shard, options};

const TICK: Duration = Duration::from_millis(10);
const LENGTH: Duration = Duration::from_secs(5);
/// How much later than a plain thread a shard may be, at worst.
const STALL_MAX: Duration = Duration::from_millis(100);

/// How late a plain thread wakes that sleeps for ticks.
fn plain_lateness() -> Vec<Duration> {
    let begin = Instant::now();
    let mut late = Vec::new();
    while begin.elapsed() < LENGTH {
        let before = Instant::now();
        thread::sleep(TICK);
        late.push(before.elapsed() - TICK);
    }
    late
}

#[test]
fn among_hogs_a_shard_is_hardly_later_than_any_thread() {
    let stop = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().unwrap().get();
    let hogs: Vec<_> = (0..2 * cores + 1)
        .map(|_| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let plain = thread::spawn(plain_lateness);
    let (mut ours, echoes, stats) = on_shard(options(), |host| async move {
        let mut listener = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut one = host.connect(listener.local(), None, Time::FAR).await.unwrap();
        let mut other = listener.accept().await.unwrap();
        host.spawn(async move {
            while let Ok(Some(chunk)) = other.recv(Time::FAR).await {
                let mut back = chunk.to_vec();
                drop(chunk);
                other.send(&mut back, Time::FAR).await.unwrap();
            }
        });
        let (mut late, mut echoes) = (Vec::new(), 0);
        let end = host.now() + LENGTH;
        while host.now() < end {
            let due = host.now() + TICK;
            host.sleep_until(due).await;
            late.push(host.now().since(due));
            one.send(&mut b"tick".to_vec(), Time::FAR).await.unwrap();
            assert_eq!(&*one.recv(Time::FAR).await.unwrap().unwrap(), b"tick");
            echoes += 1;
        }
        (late, echoes, host.stats())
    });
    let mut plain = plain.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    plain.sort();
    ours.sort();
    let at = |late: &[Duration], part: usize| late[(late.len() - 1) * part / 1000];
    println!("echoes {echoes}, stalls {}", stats.stalls);
    println!("plain thread late: {:?} {:?} {:?}", at(&plain, 500), at(&plain, 990), at(&plain, 1000));
    println!("shard late:        {:?} {:?} {:?}", at(&ours, 500), at(&ours, 990), at(&ours, 1000));
    assert!(at(&ours, 1000) < at(&plain, 1000) + STALL_MAX);
    assert!(at(&ours, 990) < at(&plain, 990) + STALL_MAX / 2);
}
