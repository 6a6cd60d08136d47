//! What the outside of a world saw: the only evidence that the oracle takes.

use crate::client::Submission;
use mail::Time;
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// One message from the view of the client that sent it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message.
    pub submission: Rc<Submission>,
    /// For each recipient that was accepted: in how many transactions the relay may have taken the message.
    pub offers: BTreeMap<String, u32>,
    /// The recipients for whom the relay took responsibility (250 after end-of-data).
    pub owed: BTreeSet<String>,
}

/// One message that a next hop took.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The name of the next hop.
    pub next_hop: String,
    /// The reverse-path; empty for `<>`.
    pub sender: String,
    /// The forward-paths.
    pub recipients: Vec<String>,
    /// MAIL and each RCPT that was accepted, as they came.
    pub commands: Vec<String>,
    /// What came, dots removed.
    pub content: Vec<u8>,
    /// When its end had come.
    pub at: Time,
    /// When the relay was known to have read the 250, since it sent its next command; `None` is ambiguous.
    pub confirmed: Option<Time>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Records {
    /// By token.
    pub sent: BTreeMap<u64, Sent>,
    /// In the order in which they came.
    pub deliveries: Vec<Delivery>,
    /// When outcomes may have been lost for a good reason.
    pub excuses: Vec<RangeInclusive<Time>>,
}

/// Records that are being made.
#[derive(Clone, Debug, Default)]
pub struct Journal(Rc<RefCell<Records>>);

impl Journal {
    /// An empty one.
    pub fn new() -> Journal {
        Journal::default()
    }

    /// What it holds.
    pub fn records(&self) -> Ref<'_, Records> {
        self.0.borrow()
    }

    /// A client is about to send the end of a message, for those of its recipients that were accepted.
    pub fn offer(&self, submission: &Rc<Submission>, recipients: &[String]) {
        let mut records = self.0.borrow_mut();
        let sent = records.sent.entry(submission.token).or_insert_with(|| Sent {
            submission: submission.clone(),
            offers: BTreeMap::new(),
            owed: BTreeSet::new(),
        });
        for recipient in recipients {
            *sent.offers.entry(recipient.clone()).or_default() += 1;
        }
    }

    /// A client read 250 after the end of a message that it had offered.
    pub fn acknowledge(&self, token: u64, recipients: &[String]) {
        if let Some(sent) = self.0.borrow_mut().sent.get_mut(&token) {
            sent.owed.extend(recipients.iter().cloned());
        }
    }

    /// A next hop takes a message; gives its number.
    pub fn deliver(&self, delivery: Delivery) -> usize {
        let mut records = self.0.borrow_mut();
        records.deliveries.push(delivery);
        records.deliveries.len() - 1
    }

    /// The relay is known to have read the 250 to a delivery.
    pub fn confirm(&self, number: usize, at: Time) {
        self.0.borrow_mut().deliveries[number].confirmed.get_or_insert(at);
    }

    /// What the relay learned in this time it may have forgotten: a crash before an outcome had to be on disk
    /// (from as long before the crash as an outcome may wait), or a disk that took none.
    pub fn excuse(&self, times: RangeInclusive<Time>) {
        self.0.borrow_mut().excuses.push(times);
    }
}
