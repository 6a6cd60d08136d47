//! What became of one recipient in one attempt.

use crate::Reply;

/// The result of an attempt for one recipient. The reply is the next hop's, or one that we made in its place
/// (connection refused, time-out, no such domain), so that logs and reports have one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop took responsibility (250 after end-of-data).
    Delivered(Reply),
    /// Try again later.
    Deferred(Reply),
    /// Do not try again; the sender is told.
    Failed(Reply),
}

impl Outcome {
    /// The reply behind the outcome.
    pub fn reply(&self) -> &Reply {
        match self {
            Outcome::Delivered(reply) | Outcome::Deferred(reply) | Outcome::Failed(reply) => reply,
        }
    }

    /// Whether this recipient needs nothing more from the next hop.
    pub fn is_final(&self) -> bool {
        !matches!(self, Outcome::Deferred(_))
    }
}
