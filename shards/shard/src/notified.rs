//! Which recipients' senders have been told of a delay, so that each is told once.
//!
//! The record of a recipient that waits says so in the highest bit of its attempts: nobody counts that far, and the
//! format needs no change.

use mail::MessageId;
use std::collections::BTreeSet;

/// Recipients that are remembered; further senders are not told, which costs them a notice.
const NOTIFIED_MAX: usize = 100_000;
/// The mark in a record.
const MARK: u16 = 1 << 15;

/// The recipients.
#[derive(Debug, Default)]
pub struct Notified(BTreeSet<(MessageId, u16)>);

impl Notified {
    /// Whether the sender may be told about this recipient.
    pub fn may_tell(&self, id: MessageId, recipient: u16) -> bool {
        self.0.len() < NOTIFIED_MAX && !self.0.contains(&(id, recipient))
    }

    /// The sender has been told.
    pub fn insert(&mut self, id: MessageId, recipient: u16) {
        self.0.insert((id, recipient));
    }

    /// The recipient has its outcome.
    pub fn remove(&mut self, id: MessageId, recipient: u16) {
        self.0.remove(&(id, recipient));
    }

    /// What is recorded as the attempts of a recipient.
    pub fn mark(&self, id: MessageId, recipient: u16, attempts: u16) -> u16 {
        let mark = if self.0.contains(&(id, recipient)) { MARK } else { 0 };
        attempts.min(MARK - 1) | mark
    }

    /// Takes back what was recorded, and says how many attempts it were.
    pub fn recover(&mut self, id: MessageId, recipient: u16, recorded: u16) -> u16 {
        if recorded & MARK != 0 && self.0.len() < NOTIFIED_MAX {
            self.insert(id, recipient);
        }
        recorded & !MARK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_known_again() {
        let (mut told, id) = (Notified::default(), MessageId(7));
        assert!(told.may_tell(id, 1));
        assert_eq!(told.mark(id, 1, 5), 5);
        told.insert(id, 1);
        assert!(!told.may_tell(id, 1) && told.may_tell(id, 2) && told.may_tell(MessageId(8), 1));
        for attempts in [0, 5, MARK - 1, u16::MAX] {
            let mut after = Notified::default();
            assert_eq!(after.recover(id, 1, told.mark(id, 1, attempts)), attempts.min(MARK - 1));
            assert_eq!(after.recover(id, 2, told.mark(id, 2, attempts)), attempts.min(MARK - 1));
            assert!(!after.may_tell(id, 1) && after.may_tell(id, 2));
        }
        told.remove(id, 1);
        assert!(told.may_tell(id, 1));
    }

    #[test]
    fn when_there_is_no_room_nobody_is_told() {
        let mut told = Notified::default();
        (0..NOTIFIED_MAX as u64).for_each(|id| told.insert(MessageId(id), 0));
        assert!(!told.may_tell(MessageId(u64::MAX), 0));
        told.recover(MessageId(u64::MAX), 0, MARK);
        assert_eq!(told.0.len(), NOTIFIED_MAX);
    }
}
