//! Conservation: what was acknowledged against what arrived.
//!
//! The unit is a delivery, one message to one recipient.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bits::Bits;
use crate::load::{Promises, Sent};
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
    /// Of these, neither arrived nor reported: still queued or lost.
    pub missing: u64,
    /// What the target has in its queue by its own account; `None` if nobody asked. Whatever else is in the
    /// queue counts too, and may hide a loss.
    pub queued: Option<u64>,
    /// Missing and not queued.
    pub lost: u64,
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
        let run = Self::of_run(&sent.promises(), ledger, listed);
        Self { altered: ledger.altered, foreign: ledger.foreign, ..run }
    }

    /// The account of one run among others: without what cannot be told whose it is.
    fn of_run(sent: &Promises, ledger: &Ledger, listed: usize) -> Self {
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
            queued: None,
            lost: missing.count(),
            missing_first: first(&missing),
            altered: altered.count(),
            altered_first: first(altered),
            repeated: run.repeated,
            repeated_first: run.repeats.iter().take(listed).map(|&number| name(number)).collect(),
            unexpected: unexpected.count(),
            unexpected_first: first(&unexpected),
            in_doubt: doubtful.count(),
            in_doubt_delivered: doubtful_arrived.count(),
            not_sent: asked - acknowledged.count() - doubtful.count(),
            foreign: 0,
        }
    }

    /// Takes what the target still has in its queue for what is missing, as far as it goes.
    pub fn with_queued(self, queued: u64) -> Self {
        Self { queued: Some(queued), lost: self.missing.saturating_sub(queued), ..self }
    }

    fn add(&mut self, other: &Account) {
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.reported += other.reported;
        self.missing += other.missing;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.unexpected += other.unexpected;
        self.in_doubt += other.in_doubt;
        self.in_doubt_delivered += other.in_doubt_delivered;
        self.not_sent += other.not_sent;
    }

    /// Whether every acknowledged delivery came out, unchanged and once; `repeats_allowed` waives "once", for
    /// runs in which the target is killed.
    pub fn holds(&self, repeats_allowed: bool) -> bool {
        let once = repeats_allowed || self.repeated == 0;
        once && self.lost == 0 && self.altered == 0 && self.unexpected == 0
    }
}

/// The account of several loads and sinks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// By the run's mark in hexadecimal, as reports have it. What cannot be told whose it is (changed
    /// stamps, foreign messages) is only in the total, and so is what is queued.
    pub runs: BTreeMap<String, Account>,
    /// The sum, without lists.
    pub total: Account,
    /// Runs that arrived but whose load gave no book.
    pub strangers: Vec<String>,
}

impl Audit {
    /// Compares all loads with what all sinks together received.
    pub fn new(loads: &[Promises], ledger: &Ledger, queued: Option<u64>, listed: usize) -> Self {
        let mark = |run: u32| format!("{run:08x}");
        let mut audit = Self::default();
        for load in loads {
            let account = Account::of_run(load, ledger, listed);
            audit.total.add(&account);
            audit.runs.insert(mark(load.run), account);
        }
        audit.total.altered = ledger.altered;
        audit.total.foreign = ledger.foreign;
        if let Some(queued) = queued {
            audit.total = audit.total.with_queued(queued);
        }
        audit.strangers = ledger.runs.keys().map(|&run| mark(run)).collect();
        audit.strangers.retain(|mark| !audit.runs.contains_key(mark));
        audit.strangers.sort();
        audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Stamp;

    const MESSAGES: u32 = 1_000_000;

    fn stamp(run: u32, sequence: u32) -> Stamp {
        Stamp { run, sequence, recipients: 1, time: 0 }
    }

    fn promises(run: u32, messages: u32) -> Promises {
        let mut promises = Promises {
            run,
            messages,
            recipients: 1,
            acknowledged: Bits::default(),
            in_doubt: Bits::default(),
        };
        for sequence in 0..messages {
            promises.acknowledged.insert(sequence.into());
        }
        promises
    }

    fn received(run: u32, messages: impl Iterator<Item = u32>) -> Ledger {
        let mut ledger = Ledger::default();
        messages.for_each(|sequence| ledger.deliver(&stamp(run, sequence), [Some(0)].into_iter()));
        ledger
    }

    #[test]
    fn one_loss_in_a_million_is_found_wherever_it_is() {
        let sent = promises(7, MESSAGES);
        for lost in [0, 63, 64, 654_321, MESSAGES - 1] {
            let ledger = received(7, (0..MESSAGES).filter(|&sequence| sequence != lost));
            let account = Account::of_run(&sent, &ledger, 20);
            assert_eq!((account.acknowledged, account.delivered), (1_000_000, 999_999));
            assert_eq!((account.missing, account.lost), (1, 1));
            assert_eq!(account.missing_first, [Delivery { message: lost.into(), recipient: 0 }]);
            assert!(!account.holds(true));
        }
        let account = Account::of_run(&sent, &received(7, 0..MESSAGES), 20);
        assert!(account.holds(false), "{account}");
    }

    #[test]
    fn one_repetition_in_a_million_is_found() {
        let account = Account::of_run(&promises(7, MESSAGES), &received(7, (0..MESSAGES).chain([77])), 20);
        assert_eq!((account.repeated, account.lost), (1, 0));
        assert_eq!(account.repeated_first, [Delivery { message: 77, recipient: 0 }]);
        assert!(!account.holds(false) && account.holds(true));
    }

    #[test]
    fn what_is_queued_is_not_lost() {
        let account = Account::of_run(&promises(7, 100), &received(7, 10..100), 20);
        assert_eq!((account.missing, account.queued, account.lost), (10, None, 10));
        for (queued, lost) in [(0, 10), (9, 1), (10, 0), (11, 0)] {
            let account = account.clone().with_queued(queued);
            assert_eq!((account.missing, account.queued, account.lost), (10, Some(queued), lost));
            assert_eq!(account.holds(false), lost == 0);
        }
    }

    #[test]
    fn several_loads_and_sinks_make_one_account() {
        // Both sinks have message 5 of run 1; neither has message 9 of run 2; nobody knows run 3.
        let mut ledger = received(1, 0..6);
        ledger.absorb(&received(1, 5..10));
        ledger.absorb(&received(2, 0..9));
        ledger.absorb(&received(3, 0..1));
        ledger.foreign += 1;
        let loads = [promises(1, 10), promises(2, 10)];
        let audit = Audit::new(&loads, &ledger, None, 20);
        let (one, two) = (&audit.runs["00000001"], &audit.runs["00000002"]);
        assert_eq!((one.delivered, one.repeated, one.lost), (10, 1, 0));
        assert_eq!((two.delivered, two.repeated, two.lost), (9, 0, 1));
        assert_eq!(two.missing_first, [Delivery { message: 9, recipient: 0 }]);
        let total = &audit.total;
        assert_eq!((total.acknowledged, total.delivered, total.lost, total.foreign), (20, 19, 1, 1));
        assert_eq!(audit.strangers, ["00000003"]);
        assert!(!total.holds(true));
        assert!(Audit::new(&loads, &ledger, Some(1), 20).total.holds(true));
    }
}
