//! Open questions. A ticket is consumed by its answer, so that nothing is answered twice, and 250 after a message
//! can only come from a ticket that was answered `Ok`.

use alloc::vec::Vec;

use auth::Answer;
use mail::{MessageId, Reply, WallTime};

use super::Session;

/// May this sender, or this recipient? To be answered before the next [`Session::step`].
#[derive(Debug)]
#[must_use = "the session stands still until the ticket is answered"]
pub struct AskTicket(pub(super) ());

/// May a message come? To be answered before the next [`Session::step`].
#[derive(Debug)]
#[must_use = "the session stands still until the ticket is answered"]
pub struct BeginTicket(pub(super) ());

/// Is the message durable? To be answered before the next [`Session::step`].
#[derive(Debug)]
#[must_use = "the session stands still until the ticket is answered"]
pub struct StoreTicket(pub(super) ());

/// Is the client who it says it is? To be answered before the next [`Session::step`].
#[derive(Debug)]
#[must_use = "the session stands still until the ticket is answered"]
pub struct LoginTicket(pub(super) ());

// Refusals are 4yz or 5yz; a 421 closes the connection. Any other code is a bug of the caller's, as is a ticket
// that another session handed out: both panic.

impl AskTicket {
    /// 250, or the refusal.
    pub fn answer(self, session: &mut Session, answer: Result<(), Reply>, out: &mut Vec<u8>) {
        session.asked(answer, out);
    }
}

impl BeginTicket {
    /// 354 with the identity and the wall time of the message to come; or the refusal, which also ends the
    /// transaction, since few clients would think of RSET.
    pub fn answer(
        self,
        session: &mut Session,
        answer: Result<(MessageId, WallTime), Reply>,
        out: &mut Vec<u8>,
    ) {
        session.begun(answer, out);
    }
}

impl StoreTicket {
    /// 250 with the identity once the message is durable, or the refusal. Either way the transaction is over.
    pub fn answer(self, session: &mut Session, answer: Result<(), Reply>, out: &mut Vec<u8>) {
        session.stored(answer, out);
    }
}

impl LoginTicket {
    /// What [`Session::login_question`] asks. Panics when credentials are given that were not asked for.
    pub fn answer(self, session: &mut Session, answer: Answer, out: &mut Vec<u8>) {
        session.login_answered(answer, out);
    }
}
