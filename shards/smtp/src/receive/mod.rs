//! The receiving session: from the greeting to QUIT.
//!
//! The driver's loop is: `step` until it says [`Step::NeedBytes`] (send what is in `out`, then receive and
//! `feed`), [`Step::Close`] (send, then close), or hands out a ticket (find the answer, then give it to the ticket
//! and step on). Replies pile up in `out` meanwhile; they must be sent before anything is waited for that depends
//! on the peer, and may be sent before a ticket is answered.

mod content;
mod input;
mod pace;
mod profile;
mod replies;
mod session;
mod skip;
mod ticket;
mod transaction;

pub use profile::Profile;
pub use session::Session;
pub use ticket::{AskTicket, BeginTicket, LoginTicket, StoreTicket};

use alloc::vec::Vec;

use mail::{Address, BodyType, Envelope, MessageId, WallTime};

/// What the session wants next.
#[derive(Debug)]
#[must_use = "a session goes on only when its step is taken"]
pub enum Step {
    /// Send what was written, then feed more bytes, or say that no more will come.
    NeedBytes,
    /// May this sender, or this recipient? [`Session::question`] says which.
    Ask(AskTicket),
    /// Is the client who it says it is? [`Session::login_question`] says what is asked.
    Login(LoginTicket),
    /// A message is about to come: give it an identity, or refuse it.
    Begin(BeginTicket),
    /// Make the message durable. Only then may the ticket be answered `Ok`.
    Store(StoreTicket, Incoming),
    /// Send what was written, then close the connection. Every later step says the same.
    Close(CloseReason),
}

/// Why the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The client closed its half, perhaps in the middle of a message, of which nothing is kept.
    EndOfInput,
    /// [`Session::timed_out`] was called.
    TimedOut,
    /// More than [`Profile::errors_max`] errors.
    TooManyErrors,
    /// More than [`Profile::idle_commands_max`] commands that brought no message forward.
    TooManyIdleCommands,
    /// More than [`Profile::transactions_max`] transactions.
    TooManyTransactions,
    /// More than [`Profile::login_failures_max`] failed attempts to log in.
    TooManyFailedLogins,
    /// A BDAT whose size could not be read: what follows it cannot be told apart.
    LostTrack,
    /// [`Session::stop`] was called.
    Stopped,
    /// A question was answered with a 421 reply.
    Refused,
}

/// What a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// May `sender` (`None` is the null reverse-path) begin a transaction?
    Sender {
        /// The reverse-path.
        sender: Option<&'a Address>,
        /// The size that the client declared, in bytes; at most [`Profile::message_bytes_max`].
        size: Option<u64>,
        /// The body type that the client declared.
        body: BodyType,
    },
    /// May the sender of this transaction ([`Session::sender`]) send to `recipient`?
    Recipient {
        /// The forward-path.
        recipient: &'a Address,
    },
}

/// A message that waits to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The identity that was given when it began.
    pub id: MessageId,
    /// The wall time that was given with it; also in the `Received` field.
    pub accepted: WallTime,
    /// Sender and recipients. The body type is what the content is, whatever was declared, so that a message that
    /// was declared 8-bit without need can still go to a next hop without 8BITMIME. So it is with SMTPUTF8.
    pub envelope: Envelope,
    /// Our `Received` field, then the message as it was sent: lines end with CRLF, the last one too, stuffing is
    /// removed. [`BodyType::Binary`] content is any bytes.
    pub content: Vec<u8>,
    /// Whether some line starts with a dot, so that the content needs stuffing when it is sent.
    pub dotted: bool,
}
