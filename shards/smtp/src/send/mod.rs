//! The client side of SMTP: a [`Session`] gives transactions to one next hop over one connection.
//!
//! The driver's loop: connect, [`Session::new`], then [`Session::step`] again and again. Whatever `step` asks
//! for, send what is in `out` first, with one write; then
//!
//! * [`Step::NeedBytes`]: receive until [`Session::deadline`] and [`Session::feed`];
//! * [`Step::Ready`]: [`Session::begin`] a transaction or [`Session::quit`];
//! * [`Step::Content`]: let another transaction [`Session::follow`] if one waits; send the content, dots stuffed, the
//!   final dot, and the follower's commands; then [`Session::content_sent`];
//! * [`Step::Chunk`]: send the content as it is; then [`Session::content_sent`];
//! * [`Step::Done`]: record the outcomes;
//! * [`Step::Close`]: close the connection.
//!
//! When the connection breaks or the deadline passes, [`Session::lost`] gives what became of the recipients.

pub mod capabilities;
mod exchange;
pub mod phase;
pub mod reply;
mod session;
#[cfg(test)]
mod tests;

pub use capabilities::Capabilities;
pub use exchange::{OUTCOME_TEXT_BYTES_MAX, PIPELINE_COMMANDS_MAX};
pub use phase::Phase;
pub use session::Session;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use mail::{Address, ByMode, Envelope, Indices, Outcome, Reply};

/// What all sessions of a shard have in common.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Our name, for EHLO and HELO.
    pub hostname: String,
    /// When content is sent with BDAT.
    pub chunking: Chunking,
    /// What becomes of 8-bit content where 8BITMIME is not offered.
    pub eight_bit: EightBit,
    /// How long the 220 may take (RFC 5321 section 4.5.3.2.1); 300 s.
    pub greeting_timeout: Duration,
    /// How long the reply to EHLO or HELO may take; 300 s.
    pub ehlo_timeout: Duration,
    /// How long the reply to MAIL or RSET may take (section 4.5.3.2.2); 300 s.
    pub mail_timeout: Duration,
    /// How long the reply to each RCPT may take (section 4.5.3.2.3); 300 s.
    pub recipient_timeout: Duration,
    /// How long the reply to DATA may take (section 4.5.3.2.4); 120 s.
    pub data_timeout: Duration,
    /// How long sending the content may take (section 4.5.3.2.5), besides what its size allows; 180 s.
    pub content_timeout: Duration,
    /// Slowest rate at which a next hop may take content, in bytes per second, at least 1; 16 KiB/s. Each
    /// second's worth of content adds a second to `content_timeout`, so that large messages pass slow lines.
    pub content_rate_min: u64,
    /// How long the reply to the final dot may take (section 4.5.3.2.6); 600 s.
    pub final_timeout: Duration,
    /// How long the reply to QUIT may take; 10 s, for nothing depends on it.
    pub quit_timeout: Duration,
}

impl Profile {
    /// A profile with the time-outs of RFC 5321 section 4.5.3.2.
    pub fn new(hostname: impl Into<String>) -> Profile {
        Profile {
            hostname: hostname.into(),
            chunking: Chunking::Auto,
            eight_bit: EightBit::Bounce,
            greeting_timeout: Duration::from_secs(300),
            ehlo_timeout: Duration::from_secs(300),
            mail_timeout: Duration::from_secs(300),
            recipient_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(120),
            content_timeout: Duration::from_secs(180),
            content_rate_min: 16 * 1024,
            final_timeout: Duration::from_secs(600),
            quit_timeout: Duration::from_secs(10),
        }
    }
}

/// When content is sent with BDAT to a next hop that offers CHUNKING (RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunking {
    /// When DATA cannot carry it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: what DATA cannot carry fails.
    Never,
}

/// What becomes of 8-bit content for a next hop that does not offer 8BITMIME (RFC 6152 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// It is sent all the same; few next hops still mind.
    Send,
    /// It fails.
    #[default]
    Bounce,
}

/// One message for one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Whose message it is, and what its content needs.
    pub envelope: Arc<Envelope>,
    /// Those of the envelope's recipients that this next hop shall have; at least one.
    pub recipients: Indices,
    /// Bytes of the content, without stuffed dots and the final dot (RFC 1870 section 3).
    pub size: u64,
    /// What happens when the time for delivery is over, and in how many seconds that is, if it has been set (RFC 2852).
    pub time_left: Option<(ByMode, i64)>,
}

impl Transaction {
    /// The recipient whose turn comes after `turn` others.
    fn recipient(&self, turn: usize) -> &Address {
        &self.envelope.recipients[usize::from(self.recipients[turn])]
    }

    /// Whether the next hop must offer SMTPUTF8.
    pub fn needs_utf8(&self) -> bool {
        let mut recipients = (0..self.recipients.len()).map(|turn| self.recipient(turn));
        self.envelope.utf8
            || self.envelope.sender.as_ref().is_some_and(Address::is_utf8)
            || recipients.any(Address::is_utf8)
    }
}

/// What the driver has to do next, after sending what is in `out`.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Receive, and feed what came.
    NeedBytes,
    /// No transaction is open: begin one, or quit, or leave the connection idle.
    Ready,
    /// Send the content and the final dot. When sending fails, what the next hop may have said before it hung
    /// up can still be fed: a refusal in it counts.
    Content,
    /// Send the content as it is, without stuffing and final dot; its BDAT command is in `out`. Otherwise as
    /// [`Step::Content`], but nothing can follow.
    Chunk,
    /// The transaction is over: one outcome for each recipient, in their order.
    Done(Vec<Outcome>),
    /// Close the connection. `None` after QUIT; otherwise why it cannot be used.
    Close(Option<Reply>),
}
