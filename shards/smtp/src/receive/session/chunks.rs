//! BDAT (RFC 3030): a message comes in chunks, between which there may be other commands.
//!
//! The bytes behind a BDAT are read whatever its reply, which comes after them. A chunk that is refused ends the
//! transaction; those that were on their way behind it are out of order.

use alloc::vec::Vec;
use core::mem;

use super::commands::Answer;
use super::{Session, State};
use crate::command::Chunk;
use crate::receive::skip::{Refusal, Skip};
use crate::receive::{BeginTicket, Step, replies};

impl Session {
    pub(super) fn bdat(&mut self, chunk: Chunk) -> Answer {
        let bytes_max = self.profile.message_bytes_max;
        let refusal = match mem::replace(&mut self.state, State::Idle) {
            State::Open(transaction) if transaction.recipients.list().is_empty() => {
                Refusal::Misplaced(&replies::NO_RECIPIENTS)
            }
            State::Open(transaction) if chunk.bytes <= bytes_max => {
                self.state = State::Beginning(transaction, Some(chunk));
                return Answer::Ask(Step::Begin(BeginTicket(())));
            }
            State::Between(mut content) if !content.outgrows(chunk, bytes_max) => {
                content.begin_chunk(chunk);
                self.state = State::Content(content);
                return Answer::Said;
            }
            State::Open(_) | State::Between(_) => Refusal::Refused(replies::TOO_LARGE.clone()),
            _ => Refusal::Misplaced(&replies::MAIL_FIRST),
        };
        self.state = State::Skipping(Skip::new(chunk, refusal));
        Answer::Said
    }

    /// A chunk has come that is not the last.
    pub(super) fn end_chunk(&mut self, out: &mut Vec<u8>) {
        let State::Content(content) = mem::replace(&mut self.state, State::Idle) else { return };
        self.deadline = mail::Time::FAR;
        if let Some(reply) = content.refusal() {
            return self.refuse(&reply.clone(), out);
        }
        // Chunks without bytes bring no message forward.
        if content.has_grown() || self.count_idle(out) {
            out.extend_from_slice(replies::CHUNK_TAKEN);
            self.state = State::Between(content);
        }
    }

    /// A chunk that was not wanted has come.
    pub(super) fn end_skip(&mut self, out: &mut Vec<u8>) {
        let State::Skipping(skip) = mem::replace(&mut self.state, State::Idle) else { return };
        self.deadline = mail::Time::FAR;
        match skip.into_refusal() {
            Refusal::Misplaced(reply) => self.misplace(reply, out),
            Refusal::Refused(reply) => self.refuse(&reply, out),
        }
    }
}
