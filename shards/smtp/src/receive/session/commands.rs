//! What each command does to the session.

use alloc::vec::Vec;
use core::mem;

use mail::{Address, BodyType, Reply};

use super::{Hello, Protocol, Session, State};
use crate::command::{self, Command, CommandError, Mail, Rcpt};
use crate::receive::input::Line;
use crate::receive::transaction::{Transaction, recipient, sender};
use crate::receive::{AskTicket, BeginTicket, CloseReason, Step, replies};

/// How a command is answered.
pub(super) enum Answer {
    /// The driver has to be asked first.
    Ask(Step),
    /// With success, though it brought no message forward.
    Idle(&'static [u8]),
    /// It came out of order. That is no error of its own: a client that pipelines sends many such when its first
    /// command was refused.
    Misplaced(&'static Reply),
    /// It is refused for what it is.
    Refused(&'static Reply),
    /// With the end of the connection.
    HangUp(&'static Reply, CloseReason),
    /// It has been answered.
    Said,
}

impl Session {
    /// Does what `line` says; `Some` when the driver has to be asked.
    pub(super) fn obey(&mut self, line: Line<'_>, out: &mut Vec<u8>) -> Option<Step> {
        let answer = match line {
            Line::TooLong => Answer::Refused(&replies::LINE_TOO_LONG),
            Line::Whole(line) => match command::parse(line) {
                Ok(command) => self.execute(command, out),
                Err(error @ CommandError::ChunkSize) => {
                    Answer::HangUp(replies::of_error(error), CloseReason::LostTrack)
                }
                Err(error) => Answer::Refused(replies::of_error(error)),
            },
        };
        match answer {
            Answer::Ask(step) => return Some(step),
            Answer::Idle(reply) => {
                if self.count_idle(out) {
                    out.extend_from_slice(reply);
                }
            }
            Answer::Misplaced(reply) => self.misplace(reply, out),
            Answer::Refused(reply) => self.refuse(reply, out),
            Answer::HangUp(reply, reason) => self.hang_up(reply, reason, out),
            Answer::Said => {}
        }
        None
    }

    fn execute(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Answer {
        match command {
            Command::Mail(mail) => self.mail(&mail),
            Command::Rcpt(rcpt) => self.rcpt(&rcpt),
            Command::Auth { mechanism, initial } => self.log_in(mechanism, initial, out),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::Ehlo(name) => self.greet(name, Protocol::Esmtp, out),
            Command::Helo(name) => self.greet(name, Protocol::Smtp, out),
            Command::Rset => {
                // RFC 5321 section 4.1.1.5: valid at any time, and as good as NOOP without a transaction.
                self.state = State::Idle;
                Answer::Idle(replies::OK)
            }
            Command::Noop => Answer::Idle(replies::OK),
            Command::Vrfy if self.must_log_in() => Answer::Refused(&replies::LOGIN_REQUIRED),
            Command::Vrfy => Answer::Idle(replies::NOT_VERIFIED),
            Command::Help => Answer::Idle(replies::COMMANDS),
            Command::Quit => {
                out.extend_from_slice(replies::BYE);
                self.close(CloseReason::Quit);
                Answer::Said
            }
        }
    }

    fn greet(&mut self, name: &str, protocol: Protocol, out: &mut Vec<u8>) -> Answer {
        // RFC 5321 section 4.1.4: EHLO in the middle of a session also does what RSET does.
        self.state = State::Idle;
        self.hello = Some(Hello { name: name.into(), protocol });
        if self.count_idle(out) {
            let profile = &*self.profile;
            let mechanisms = profile.auth.map_or_else(Vec::new, |terms| terms.offered(&self.channel));
            match protocol {
                Protocol::Smtp => replies::hello(&profile.hostname, out),
                Protocol::Esmtp => profile.extensions(&mechanisms).announce(&profile.hostname, out),
            }
        }
        Answer::Said
    }

    fn mail(&mut self, mail: &Mail<'_>) -> Answer {
        if self.hello.is_none() {
            return Answer::Misplaced(&replies::EHLO_FIRST);
        }
        if matches!(self.state, State::Open(_) | State::Between(_)) {
            return Answer::Misplaced(&replies::MAIL_TWICE);
        }
        if self.must_log_in() {
            return Answer::Refused(&replies::LOGIN_REQUIRED);
        }
        // RFC 4954 section 5: whoever announces AUTH knows the parameter.
        if mail.auth && self.profile.auth.is_none() {
            return Answer::Refused(&replies::BAD_PARAMETER);
        }
        // RFC 1870 section 6.1: known to be too large before any of it is sent.
        if mail.size.is_some_and(|size| size > self.profile.message_bytes_max) {
            return Answer::Refused(&replies::TOO_LARGE);
        }
        match sender(mail) {
            Ok(sender) => self.begin(sender, mail),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn begin(&mut self, sender: Option<Address>, mail: &Mail<'_>) -> Answer {
        self.transactions += 1;
        if self.transactions > self.profile.transactions_max {
            return Answer::HangUp(&replies::TOO_MANY_TRANSACTIONS, CloseReason::TooManyTransactions);
        }
        self.state = State::SenderAsked(Transaction::new(sender, mail));
        Answer::Ask(Step::Ask(AskTicket(())))
    }

    fn rcpt(&mut self, rcpt: &Rcpt<'_>) -> Answer {
        let transaction = match &self.state {
            State::Open(transaction) => transaction,
            State::Between(_) => return Answer::Misplaced(&replies::CHUNKS_BEGUN),
            _ => return Answer::Misplaced(&replies::MAIL_FIRST),
        };
        let recipient = match recipient(rcpt, transaction.utf8, &self.profile.hostname) {
            Ok(recipient) => recipient,
            Err(refusal) => return Answer::Refused(refusal),
        };
        if transaction.recipients.contains(&recipient.address) {
            return Answer::Idle(replies::RECIPIENT_OK);
        }
        if transaction.recipients.list().len() >= self.profile.recipients_max {
            return Answer::Refused(&replies::TOO_MANY_RECIPIENTS);
        }
        if let State::Open(transaction) = mem::replace(&mut self.state, State::Idle) {
            self.state = State::RecipientAsked(transaction, recipient);
        }
        Answer::Ask(Step::Ask(AskTicket(())))
    }

    fn data(&mut self) -> Answer {
        match mem::replace(&mut self.state, State::Idle) {
            State::Open(transaction) if transaction.recipients.list().is_empty() => {
                // RFC 2920 section 3.1: a client that pipelines learns only here that it has no recipient.
                self.state = State::Open(transaction);
                Answer::Misplaced(&replies::NO_RECIPIENTS)
            }
            // RFC 3030 section 3: DATA could not carry what was declared.
            State::Open(transaction) if transaction.body == BodyType::Binary => {
                self.state = State::Open(transaction);
                Answer::Misplaced(&replies::BINARY_IN_DATA)
            }
            State::Open(transaction) => {
                self.state = State::Beginning(transaction, None);
                Answer::Ask(Step::Begin(BeginTicket(())))
            }
            between @ State::Between(_) => {
                self.state = between;
                Answer::Misplaced(&replies::CHUNKS_BEGUN)
            }
            // Otherwise commands are read in the idle state only, which is left as it was.
            _ => Answer::Misplaced(&replies::MAIL_FIRST),
        }
    }
}
