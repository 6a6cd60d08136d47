//! What a shard counts. Plain cells on the shard; other threads see only [`Snapshot`]s, made when they ask.

use hdrhistogram::Histogram;
use spool::Alarm;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Declares the counters once: cells for the shard, numbers for the snapshot, names and help for the exporter.
macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Things that only ever grow.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $help])+ pub $name: Counter,)+ }

        impl Counters {
            /// Name, help and value of each, in the order of declaration.
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($help),+), self.$name.get())),+]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections refused with 421 because connections_max was reached.
    connections_refused,
    /// Sessions that ended in a panic.
    sessions_panicked,
    /// Messages made durable and acknowledged with 250.
    messages_accepted,
    /// Bytes of content of the messages accepted.
    bytes_accepted,
    /// Messages refused after end-of-data because the spool could not store them.
    messages_not_stored,
    /// Contents refused with 452 because body_memory was reached.
    bodies_refused,
    /// Messages refused with 452 because deliveries_max was reached.
    queue_refused,
    /// Transactions refused with 421, 451 or 452 because the shard's spool takes no mail.
    unwell_refused,
    /// Recipients refused because the client may not relay.
    relay_refused,
    /// Clients that logged in.
    logins,
    /// Of them, with a password that was right a moment ago and was not checked again.
    logins_remembered,
    /// Logins that failed.
    logins_failed,
    /// Logins refused with 454 because the client's network or the user had too many failures.
    logins_locked_out,
    /// Logins refused with 454 because the password could not be checked.
    logins_unavailable,
    /// Senders refused because the user may not send as them.
    senders_refused,
    /// Recipients delivered: the next hop took responsibility.
    recipients_delivered,
    /// Attempts for a recipient that ended in a deferral.
    recipients_deferred,
    /// Recipients that failed for good.
    recipients_failed,
    /// Recipients that became too old.
    recipients_expired,
    /// Failure reports made.
    bounces_sent,
    /// Failures that nobody is told of: of messages with a null reverse-path, or because the sender wants it so.
    bounces_suppressed,
    /// Reports of delays made.
    delays_reported,
    /// Reports of deliveries made, for next hops that make none.
    successes_reported,
    /// Reports of deliveries that could not be stored, and were given up.
    reports_lost,
    /// Connections to next hops opened.
    connections_opened,
    /// Connections to next hops that failed to open or to greet.
    connections_failed,
    /// Times that a destination had to wait for room to open a connection or to look up its way.
    crowded,
    /// Transactions with next hops.
    transactions,
    /// Transactions whose commands left right behind the content of another.
    followers,
    /// Deliveries handed to another shard.
    orders_sent,
    /// Deliveries taken from another shard.
    orders_taken,
    /// Times that another shard's inbox was full and a message to it had to wait.
    inbox_full,
    /// Leases on a share of another shard's destination taken.
    leases_taken,
    /// Contents read back from the spool.
    contents_read,
    /// Records that could not be read back.
    reads_failed,
}

/// A counter of one shard.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.set(self.0.get().wrapping_add(by));
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Stages whose latency is kept, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From the end of data until it was durable.
    Durable,
    /// From acceptance to the first order for it.
    Ready,
    /// One transaction with a next hop, from MAIL to the last reply.
    Transaction,
    /// From acceptance to the next hop's 250.
    Delivered,
}

impl Stage {
    /// All stages with name and help, in the order of their numbers.
    pub const ALL: [(&'static str, &'static str); 4] = [
        ("durable_microseconds", "From end-of-data until the message was durable."),
        ("ready_microseconds", "From acceptance until the delivery left the queue for its destination."),
        ("transaction_microseconds", "A transaction with a next hop, from MAIL to the last reply."),
        ("delivered_microseconds", "From acceptance to the next hop's 250."),
    ];
}

/// Latencies up to an hour, with two significant digits.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Counters and latencies of one shard.
#[derive(Debug)]
pub struct Metrics {
    /// The counters.
    pub count: Counters,
    latencies: RefCell<[Histogram<u64>; Stage::ALL.len()]>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("constant and valid bounds");
        Metrics { count: Counters::default(), latencies: RefCell::new(std::array::from_fn(|_| histogram())) }
    }
}

impl Metrics {
    /// Records how long a stage took.
    pub fn record(&self, stage: Stage, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latencies.borrow_mut()[stage as usize].saturating_record(micros.max(1));
    }

    /// Copies of the histograms, by [`Stage`].
    pub fn latencies(&self) -> Vec<Histogram<u64>> {
        self.latencies.borrow().to_vec()
    }
}

/// What a shard tells other threads about itself.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The shard's number.
    pub shard: usize,
    /// Name, help, value: only ever grow.
    pub counters: Vec<(&'static str, &'static str, u64)>,
    /// Name, help, value: as they are now.
    pub gauges: Vec<(&'static str, &'static str, u64)>,
    /// Latencies by [`Stage`], in microseconds.
    pub latencies: Vec<Histogram<u64>>,
    /// Whether it takes mail.
    pub takes_mail: bool,
    /// What is wrong with its logs.
    pub alarms: Vec<Alarm>,
}
