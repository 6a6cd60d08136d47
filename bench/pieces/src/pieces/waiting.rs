//! The queue while 100,000 messages wait for 10,000 destinations.

use crate::meter::count;
use mail::{Indices, MessageId, Time};
use queue::{NewDelivery, Queue};
use std::sync::Arc;
use std::time::Duration;

const WAITING: u64 = 100_000;
const DESTINATIONS: u64 = 10_000;
const MESSAGES: u64 = 5_000;
const NOW: Time = Time(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// The crowd: its messages are due from an hour on, one each millisecond.
struct Crowd {
    queue: Queue<u64>,
    names: Vec<Arc<str>>,
}

impl Crowd {
    fn gather() -> Crowd {
        let names = (0..DESTINATIONS).map(|n| Arc::from(format!("mx:domain{n}.example"))).collect();
        let mut crowd = Crowd { queue: Queue::new(60), names };
        (0..WAITING).for_each(|number| crowd.add(number, due(number)));
        crowd
    }

    fn add(&mut self, number: u64, due: Time) {
        let delivery = NewDelivery {
            destination: self.names[(number * 7919 % DESTINATIONS) as usize].clone(),
            recipients: [0].into_iter().collect(),
            attempts: 0,
            due,
        };
        let expires = NOW + 100 * HOUR;
        self.queue.add(MessageId(number), number, expires, [delivery], NOW);
    }
}

fn due(number: u64) -> Time {
    NOW + HOUR + Duration::from_millis(number)
}

/// A message that comes, leaves at once and is delivered.
pub fn passing() -> u64 {
    let mut crowd = Crowd::gather();
    let mut pass = |first| {
        for number in first..first + MESSAGES {
            crowd.add(number, NOW);
            let taken = crowd.queue.take().expect("it is due");
            assert_eq!(crowd.queue.settle(taken.key, Indices::new(), NOW).retired, Some(number));
        }
    };
    pass(WAITING);
    count(|| pass(WAITING + MESSAGES));
    MESSAGES
}

/// A message that waits: its time comes, it fails, its time comes again, and it is delivered.
pub fn retried() -> u64 {
    let mut crowd = Crowd::gather();
    let mut retry = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let now = crowd.queue.next_due();
            assert_eq!(now, due(number));
            crowd.queue.tick(now);
            let taken = crowd.queue.take().expect("one is due");
            crowd.queue.settle(taken.key, taken.recipients, now);
            crowd.queue.tick(now);
            let taken = crowd.queue.take().expect("it is due again");
            assert_eq!(crowd.queue.settle(taken.key, Indices::new(), now).retired, Some(number));
        }
    };
    retry(0..MESSAGES);
    count(|| retry(MESSAGES..2 * MESSAGES));
    MESSAGES
}
