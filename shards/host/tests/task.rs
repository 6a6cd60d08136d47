//! Tasks, timers, bells, and the start and end of shards.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use host::ring_host::{Options, RingBell, Workers, probe, start};
use host::{Bell, Host, WorkError};
use mail::Time;
use shard::{on_shard, options, pause, settle, within};

/// Panics when it is polled, and when it is dropped.
struct Grudge;

impl Future for Grudge {
    type Output = ();
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        panic!("a grudge is told");
    }
}

impl Drop for Grudge {
    fn drop(&mut self) {
        panic!("a grudge is borne");
    }
}

#[test]
fn a_panic_costs_its_task_only() {
    let stats = on_shard(options(), |host| async move {
        let survived = Rc::new(Cell::new(0));
        for number in 0..10 {
            let (sleeper, survived) = (host.clone(), survived.clone());
            host.spawn(async move {
                pause(&sleeper, 20).await;
                assert!(number % 2 == 0, "odd");
                survived.set(survived.get() + 1);
            });
        }
        host.spawn(async { panic!("before the first wait") });
        host.spawn(Grudge);
        settle(&host, |_| survived.get() == 5).await;
        assert_eq!(survived.get(), 5);
        settle(&host, |stats| stats.panics >= 8).await
    });
    assert_eq!((stats.panics, stats.spawned), (8, 12));
}

#[test]
fn sleepers_wake_in_order_and_not_early() {
    on_shard(options(), |host| async move {
        let woken = Rc::new(RefCell::new(Vec::new()));
        for millis in [60u64, 20, 40, 0, 80] {
            let (sleeper, woken) = (host.clone(), woken.clone());
            host.spawn(async move {
                let at = within(&sleeper, millis);
                sleeper.sleep_until(at).await;
                assert!(sleeper.now() >= at);
                woken.borrow_mut().push(millis);
            });
        }
        settle(&host, |_| woken.borrow().len() == 5).await;
        assert_eq!(*woken.borrow(), [0, 20, 40, 60, 80]);
    });
}

#[test]
fn no_ring_is_lost_among_a_hundred_thousand_from_two_threads() {
    const RINGS: u64 = 50_000;
    let bell = RingBell::new().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let ringers: Vec<_> = (0..2u32)
        .map(|number| {
            let (bell, sent) = (bell.clone(), sent.clone());
            thread::spawn(move || {
                for turn in 0..RINGS {
                    sent.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                    // Pauses of all lengths, so that the shard is met awake, asleep, and in between.
                    match turn % 512 {
                        0 => thread::sleep(Duration::from_micros(200)),
                        even if even % 8 == u64::from(number) => {
                            (0..even * 4).for_each(|_| std::hint::spin_loop())
                        }
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let counted = sent.clone();
    let stats = on_shard(Options { bell: Some(bell), ..options() }, |host| async move {
        let mut seen = 0;
        while seen < 2 * RINGS {
            host.rung().await;
            seen = counted.load(Ordering::SeqCst);
        }
        host.stats()
    });
    ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    assert_eq!(sent.load(Ordering::SeqCst), 2 * RINGS);
    assert!(stats.waits > 0);
}

#[test]
fn a_bell_wakes_a_sleeping_shard_soon() {
    const ROUNDS: usize = 300;
    let bell = RingBell::new().unwrap();
    let rung_at = Arc::new(Mutex::new(Instant::now()));
    let heard = Arc::new(AtomicU64::new(0));
    let (ringing, at, count) = (bell.clone(), rung_at.clone(), heard.clone());
    let ringer = thread::spawn(move || {
        for round in 0..ROUNDS as u64 {
            thread::sleep(Duration::from_millis(1));
            *at.lock().unwrap() = Instant::now();
            ringing.ring();
            while count.load(Ordering::SeqCst) <= round {
                thread::yield_now();
            }
        }
    });
    let mut took = on_shard(Options { bell: Some(bell), ..options() }, move |host| async move {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            host.rung().await;
            took.push(rung_at.lock().unwrap().elapsed());
            heard.fetch_add(1, Ordering::SeqCst);
        }
        took
    });
    ringer.join().unwrap();
    took.sort();
    println!(
        "bell to a sleeping shard: median {:?}, 99 of 100 within {:?}",
        took[ROUNDS / 2],
        took[ROUNDS * 99 / 100]
    );
    assert!(took[ROUNDS / 2] < Duration::from_millis(20), "{:?}", took[ROUNDS / 2]);
}

#[test]
fn a_ring_while_nobody_waits_is_remembered_once() {
    on_shard(options(), |host| async move {
        host.bell().ring();
        host.bell().ring();
        pause(&host, 20).await;
        host.rung().await;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(host.rung()).poll(&mut cx).is_pending());
        let before = host.stats();
        pause(&host, 100).await;
        assert!(host.stats().turns - before.turns < 50, "a ring that nobody waits for keeps the shard awake");
    });
}

#[test]
fn an_idle_shard_hardly_turns() {
    let (before, after) = on_shard(options(), |host| async move {
        pause(&host, 100).await;
        let before = host.stats();
        assert!(host.gauges().contains(&("host_buffers", "Receive buffers.", before.buffers)));
        pause(&host, 2000).await;
        (before, host.stats())
    });
    assert!(after.turns - before.turns < 20, "{before:?} {after:?}");
}

#[test]
fn tasks_that_still_wait_at_the_end_hold_nothing_open() {
    let at = on_shard(options(), |host| async move {
        let mut listener = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = host::Listener::local(&listener);
        let sleeper = host.clone();
        host.spawn(async move {
            let accepted = host::Listener::accept(&mut listener).await;
            sleeper.sleep_until(Time::FAR).await;
            drop(accepted);
        });
        let mut caller = std::net::TcpStream::connect(at).unwrap();
        pause(&host, 50).await;
        std::io::Write::write_all(&mut caller, b"unread").unwrap();
        at
    });
    assert_eq!(std::net::TcpStream::connect(at).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_panic_of_the_main_future_reaches_whoever_joins() {
    let shard = start(options(), |_| async { panic!("no shard without its main") }).unwrap();
    assert!(shard.join().is_err());
}

#[test]
fn a_shard_that_cannot_be_pinned_does_not_start() {
    let error = start(Options { cpu: Some(100_000), ..options() }, |_| async {}).err();
    assert!(error.is_some());
}

#[test]
fn clocks_agree_between_shards_and_randomness_does_not() {
    let one = on_shard(options(), |host| async move { (host.now(), host.wall(), host.random()) });
    let other = on_shard(options(), |host| async move { (host.now(), host.wall(), host.random()) });
    assert!(other.0 > one.0 && other.0.since(one.0) < Duration::from_secs(60));
    assert!(other.1 >= one.1);
    assert_ne!(other.2, one.2);
}

#[test]
fn the_probe_finds_what_the_other_tests_use() {
    let findings = probe();
    assert!(findings.len() > 15);
    for finding in findings.iter().filter(|finding| finding.name != "RLIMIT_NOFILE") {
        assert!(finding.ok, "{finding:?}");
        assert!(finding.advice.ends_with('.'), "{finding:?}");
    }
}

#[test]
fn workers_answer_while_the_shard_goes_on() {
    let workers = Workers::start(2, 2).unwrap();
    let options = Options { workers: Some(workers.clone()), ..options() };
    let (answer, ticks) = on_shard(options, |host| async move {
        let ticks = Rc::new(Cell::new(0));
        let (ticker, counted) = (host.clone(), ticks.clone());
        host.spawn(async move {
            loop {
                pause(&ticker, 5).await;
                counted.set(counted.get() + 1);
            }
        });
        let shard = thread::current().id();
        let long = move || {
            thread::sleep(Duration::from_millis(200));
            thread::current().id() != shard
        };
        let answer = host.work(long, within(&host, 10_000)).await;
        (answer, ticks.get())
    });
    assert_eq!(answer, Ok(true));
    assert!(ticks >= 5, "the shard stood still: {ticks} ticks");
}

#[test]
fn work_without_an_answer_says_why() {
    let workers = Workers::start(1, 2).unwrap();
    let options = Options { workers: Some(workers), ..options() };
    let done = Arc::new(AtomicU64::new(0));
    let counted = done.clone();
    let (panicked, late, outcomes) = on_shard(options, |host| async move {
        let panicked = host.work(|| panic!("a worker panics"), within(&host, 10_000)).await;
        let count = |counted: &Arc<AtomicU64>| {
            let counted = counted.clone();
            move || {
                thread::sleep(Duration::from_millis(100));
                counted.fetch_add(1, Ordering::SeqCst);
            }
        };
        let late = host.work(count(&counted), within(&host, 10)).await;
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..5 {
            let (asker, counted, outcomes) = (host.clone(), count(&counted), outcomes.clone());
            host.spawn(async move {
                let outcome = asker.work(counted, within(&asker, 10_000)).await;
                outcomes.borrow_mut().push(outcome);
            });
        }
        while outcomes.borrow().len() < 5 {
            pause(&host, 5).await;
        }
        (panicked, late, outcomes.take())
    });
    assert_eq!((panicked, late), (Err::<(), _>(WorkError::Panicked), Err(WorkError::Late)));
    // One may be at work, or the one before still is: two wait.
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(WorkError::Busy)).count();
    assert!((2..=3).contains(&refused), "{outcomes:?}");
    assert_eq!(done.load(Ordering::SeqCst), 1 + (5 - refused) as u64);
}

#[test]
fn work_that_nobody_waits_for_any_more_is_not_begun() {
    let workers = Workers::start(1, 100).unwrap();
    let options = Options { workers: Some(workers.clone()), ..options() };
    let done = Arc::new(AtomicU64::new(0));
    let counted = done.clone();
    on_shard(options, |host| async move {
        for _ in 0..20 {
            let (asker, counted) = (host.clone(), counted.clone());
            host.spawn(async move {
                let work = move || {
                    thread::sleep(Duration::from_millis(20));
                    counted.fetch_add(1, Ordering::SeqCst);
                };
                let _ = asker.work(work, within(&asker, 50)).await;
            });
        }
        pause(&host, 150).await;
    });
    while workers.waiting() > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let done = done.load(Ordering::SeqCst);
    assert!((1..10).contains(&done), "{done} pieces were done");
}
