//! What waiting costs, counted by the allocator: at the peak of growth, at rest, and after messages came and went.

use mail::{Indices, MessageId, Time};
use queue::{NewDelivery, Queue};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

/// The promise: bytes per waiting message with one recipient.
const BYTES_MAX: usize = 96;
/// As large as a place in the spool.
type Place = [u32; 4];

/// Counts what its thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: usize, shrunk: usize) {
    let held = HELD.get().wrapping_add(grown).wrapping_sub(shrunk);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: everything is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block may live until the new one is filled.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages for a few destinations, due at random within an hour.
struct Crowd {
    queue: Queue<Place>,
    names: Vec<Arc<str>>,
    random: u64,
    added: u64,
}

const HOUR: u64 = 3_600_000_000_000;

impl Crowd {
    fn new(destinations: usize) -> Crowd {
        let names = (0..destinations).map(|n| Arc::from(format!("mx:domain{n}.example"))).collect();
        Crowd { queue: Queue::new(1 << 30), names, random: 1, added: 0 }
    }

    fn random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 24
    }

    fn add(&mut self, deliveries: usize, recipients: u16, now: Time) {
        let due = Time(now.0 + 1 + self.random() % HOUR);
        let first = self.random() as usize;
        let names = &self.names;
        let new = (0..deliveries).map(|number| NewDelivery {
            destination: names[(first + number) % names.len()].clone(),
            recipients: (0..recipients).collect(),
            attempts: 0,
            due,
        });
        self.queue.add(MessageId(self.added), [self.added as u32; 4], Time(now.0 + 100 * HOUR), new, now);
        self.added += 1;
    }

    /// Settles all that is due by `now`; every second one waits again.
    fn pass(&mut self, now: Time) {
        while self.queue.next_due() <= now {
            self.queue.tick(now);
            while let Some(due) = self.queue.take() {
                let again = Time(now.0 + 1 + self.random() % HOUR);
                let deferred = if self.random().is_multiple_of(2) { due.recipients } else { Indices::new() };
                self.queue.settle(due.key, deferred, again);
            }
        }
    }
}

/// Runs `work` and returns what it left allocated and the most that it held above what was there before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, HELD.get() - before, PEAK.get() - before)
}

#[test]
fn a_message_that_waits_holds_at_most_96_bytes_at_any_count() {
    let mut crowd = Crowd::new(100);
    let before = HELD.get();
    PEAK.set(before);
    for thousands in 1..=3000 {
        (0..1000).for_each(|_| crowd.add(1, 1, Time(0)));
        let (held, peak) = (HELD.get() - before, PEAK.get() - before);
        PEAK.set(HELD.get());
        let all = thousands * 1000;
        // Below that, the chunks that are begun and the hundred destinations weigh more than the messages.
        assert!(thousands < 100 || peak <= all * BYTES_MAX, "{peak} bytes for {all} messages");
        if thousands % 1000 == 0 {
            println!("{all} waiting: {} bytes each", held as f64 / all as f64);
        }
    }
}

#[test]
fn memory_is_used_again_after_messages_came_and_went() {
    const CROWD: usize = 200_000;
    let mut crowd = Crowd::new(100);
    let before = HELD.get();
    PEAK.set(before);
    let mut now = 0;
    for _ in 0..10 {
        now += HOUR / 2;
        crowd.pass(Time(now));
        while crowd.queue.messages() < CROWD {
            crowd.add(1, 1, Time(now));
        }
        let (held, peak) = (HELD.get() - before, PEAK.get() - before);
        assert!(peak <= CROWD * BYTES_MAX, "{peak} bytes at most after messages came and went");
        println!("after churn: {} bytes each", held as f64 / CROWD as f64);
    }
    while crowd.queue.messages() > 0 {
        now += HOUR;
        crowd.pass(Time(now));
    }
    let left = HELD.get() - before;
    println!("when all have gone: {left} bytes");
    assert!(left < 1 << 20, "{left} bytes are left when all have gone");
}

#[test]
fn what_is_ready_takes_no_more_than_what_waits() {
    let mut crowd = Crowd::new(1);
    let ((), held, peak) = measured(|| {
        (0..300_000).for_each(|_| crowd.add(1, 1, Time(0)));
        crowd.queue.rest("mx:domain0.example", Time(9 * HOUR));
        while crowd.queue.next_due() <= Time(HOUR) {
            crowd.queue.tick(Time(HOUR));
        }
    });
    assert_eq!(crowd.queue.ready(), 300_000);
    println!("ready: {} bytes each", held as f64 / 3e5);
    assert!(held <= 300_000 * 75 && peak <= 300_000 * BYTES_MAX, "{held} bytes, {peak} at most");
}

#[test]
fn several_recipients_cost_what_is_documented() {
    for (deliveries, recipients, bytes_max) in [(1, 4, 118), (1, 100, 318), (3, 1, 174), (10, 1, 483)] {
        let mut crowd = Crowd::new(100);
        let ((), held, _) =
            measured(|| (0..100_000).for_each(|_| crowd.add(deliveries, recipients, Time(0))));
        println!("{deliveries} deliveries for {recipients}: {} bytes", held as f64 / 1e5);
        assert!(held <= 100_000 * bytes_max, "{deliveries} deliveries for {recipients}: {held} bytes");
    }
}

#[test]
fn a_destination_for_each_message_costs_what_is_documented() {
    let mut crowd = Crowd::new(300_000);
    let ((), held, peak) = measured(|| {
        for number in 0..300_000 {
            let new = NewDelivery {
                destination: crowd.names[number].clone(),
                recipients: [0].into_iter().collect(),
                attempts: 0,
                due: Time(HOUR),
            };
            crowd.queue.add(MessageId(number as u64), [0; 4], Time(HOUR), [new], Time(0));
        }
    });
    println!("with a destination each: {} bytes, {} at most", held as f64 / 3e5, peak as f64 / 3e5);
    assert!(held <= 300_000 * (84 + 56 + 10) && peak <= 300_000 * (84 + 56 + 20));
}
