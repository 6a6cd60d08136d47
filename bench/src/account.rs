//! Conservation: what was acknowledged against what arrived.
//!
//! The unit is a delivery, one message to one recipient.

use serde::Serialize;

use crate::bits::Bits;
use crate::load::Sent;
use crate::sink::{Ledger, RunReceipts};

/// A delivery by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The message's number.
    pub message: u64,
    /// The recipient's number within the message.
    pub recipient: u64,
}

/// What became of every delivery of a load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// Deliveries that the target acknowledged.
    pub acknowledged: u64,
    /// Of these, arrived intact, at least once.
    pub delivered: u64,
    /// Of these, not arrived, but a failure report did.
    pub reported: u64,
    /// Of these, neither arrived nor reported: lost, or still queued if the target was not given the time.
    pub missing: u64,
    /// The first of them.
    pub missing_first: Vec<Delivery>,
    /// Deliveries that arrived changed.
    pub altered: u64,
    /// The first of them, as far as they can be told.
    pub altered_first: Vec<Delivery>,
    /// Arrivals of intact messages on top of the first of each.
    pub repeated: u64,
    /// The first of them.
    pub repeated_first: Vec<Delivery>,
    /// Arrived although the target had refused them or was never given them.
    pub unexpected: u64,
    /// The first of them.
    pub unexpected_first: Vec<Delivery>,
    /// Without an answer because the connection broke behind the final dot, so that arriving and not arriving
    /// are both right.
    pub in_doubt: u64,
    /// Of these, arrived.
    pub in_doubt_delivered: u64,
    /// Neither acknowledged nor in doubt: refused, or not sent.
    pub not_sent: u64,
    /// Messages that arrived and belong to no load or to another.
    pub foreign: u64,
}

impl Account {
    /// Compares; lists up to `listed` deliveries of each kind of trouble.
    pub fn new(sent: &Sent, ledger: &Ledger, listed: usize) -> Self {
        let none = RunReceipts::default();
        let run = ledger.runs.get(&sent.run).unwrap_or(&none);
        let name = |number: u64| Delivery {
            message: number / u64::from(sent.recipients),
            recipient: number % u64::from(sent.recipients),
        };
        let first = |bits: &Bits| bits.iter().take(listed).map(name).collect();
        let (delivered, reported, altered) = (&run.delivered, &run.reported, &run.altered);
        let (acknowledged, in_doubt) = (&sent.acknowledged, &sent.in_doubt);
        let arrived = acknowledged.combine([delivered], |all, [got]| all & got);
        let failed = acknowledged.combine([delivered, reported], |all, [got, told]| all & told & !got);
        let missing = acknowledged.combine([delivered, reported, altered], |all, [got, told, changed]| {
            all & !(got | told | changed)
        });
        let unexpected =
            delivered.combine([acknowledged, in_doubt], |got, [all, maybe]| got & !(all | maybe));
        let doubtful = in_doubt.combine([acknowledged], |maybe, [all]| maybe & !all);
        let doubtful_arrived = doubtful.combine([delivered], |maybe, [got]| maybe & got);
        let asked = u64::from(sent.messages) * u64::from(sent.recipients);
        Self {
            acknowledged: acknowledged.count(),
            delivered: arrived.count(),
            reported: failed.count(),
            missing: missing.count(),
            missing_first: first(&missing),
            altered: ledger.altered,
            altered_first: first(altered),
            repeated: run.repeated,
            repeated_first: run.repeats.iter().take(listed).map(|&number| name(number)).collect(),
            unexpected: unexpected.count(),
            unexpected_first: first(&unexpected),
            in_doubt: doubtful.count(),
            in_doubt_delivered: doubtful_arrived.count(),
            not_sent: asked - acknowledged.count() - doubtful.count(),
            foreign: ledger.foreign,
        }
    }

    /// Whether every acknowledged delivery came out, unchanged and once; `repeats_allowed` waives "once", for
    /// runs in which the target is killed.
    pub fn holds(&self, repeats_allowed: bool) -> bool {
        let once = repeats_allowed || self.repeated == 0;
        once && self.missing == 0 && self.altered == 0 && self.unexpected == 0
    }
}
