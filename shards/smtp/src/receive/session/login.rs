//! AUTH (RFC 4954): who the client is.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use auth::{Channel, End, Exchange, Mechanism, Next, User};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::commands::Answer;
use super::{Session, State};
use crate::receive::input::{Input, Line};
use crate::receive::{CloseReason, LoginTicket, Step, replies};

/// Longest line of an attempt to log in, in bytes, CRLF included: RFC 4954 section 4 asks for 12,288 without it.
/// Beyond: 500 5.5.6.
pub(super) const LINE_BYTES_MAX: usize = 12_290;

/// Whether and as whom the client has logged in.
#[derive(Debug, Default)]
pub(super) struct Login {
    user: Option<Arc<User>>,
    failures: u32,
}

impl Login {
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }
}

impl Session {
    /// As whom the client has logged in.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.login.user()
    }

    /// What a [`LoginTicket`] is about; `None` when none is out.
    pub fn login_question(&self) -> Option<auth::Question<'_>> {
        match &self.state {
            State::LoginAsked(exchange) => exchange.question(),
            _ => None,
        }
    }

    /// The connection has become `channel`: whoever had logged in before must do so again (RFC 3207 section 4.2).
    pub fn set_channel(&mut self, channel: Channel) {
        self.channel = channel;
        self.login.user = None;
    }

    /// The longest line that may come next: AUTH may bring a response along.
    pub(super) fn line_bytes_max(&self, input: &Input) -> usize {
        const AUTH: &[u8] = b"AUTH ";
        let is_auth = self.profile.auth.is_some()
            && input.rest().get(..AUTH.len()).is_some_and(|verb| verb.eq_ignore_ascii_case(AUTH));
        if is_auth { LINE_BYTES_MAX.max(self.profile.line_bytes_max) } else { self.profile.line_bytes_max }
    }

    /// Whether nothing may be sent before the client has logged in.
    pub(super) fn must_log_in(&self) -> bool {
        self.login.user.is_none() && self.profile.auth.is_some_and(|terms| terms.required)
    }

    /// AUTH.
    pub(super) fn log_in(&mut self, mechanism: &str, initial: Option<&str>, out: &mut Vec<u8>) -> Answer {
        let Some(terms) = self.profile.auth else {
            return Answer::Refused(&replies::NOT_IMPLEMENTED);
        };
        if self.hello.is_none() {
            return Answer::Misplaced(&replies::EHLO_FIRST);
        }
        if matches!(self.state, State::Open(_)) {
            return Answer::Misplaced(&replies::LOGIN_IN_TRANSACTION);
        }
        if self.login.user.is_some() {
            return Answer::Misplaced(&replies::LOGIN_TWICE);
        }
        let mechanism = match Mechanism::parse(mechanism) {
            Some(mechanism) if terms.offers(mechanism, &self.channel) => mechanism,
            Some(_) if self.channel == Channel::Plain && !terms.without_tls => {
                return Answer::Refused(&replies::LOGIN_NEEDS_TLS);
            }
            _ => return Answer::Refused(&replies::NO_SUCH_MECHANISM),
        };
        let initial = match initial.map(|text| if text == "=" { Some(Vec::new()) } else { decode(text) }) {
            Some(None) => return Answer::Refused(&replies::BAD_BASE64),
            Some(response) => response,
            None => None,
        };
        let mut exchange = Box::new(Exchange::new(mechanism, &self.channel));
        let next = exchange.begin(initial.as_deref());
        self.follow(exchange, next, out).map_or(Answer::Said, Answer::Ask)
    }

    /// Takes a line that answers a challenge.
    pub(super) fn respond(&mut self, line: Line<'_>, out: &mut Vec<u8>) -> Option<Step> {
        let State::Responding(mut exchange) = mem::replace(&mut self.state, State::Idle) else {
            return None;
        };
        let refusal = match line {
            Line::TooLong => &replies::LOGIN_LINE_TOO_LONG,
            Line::Whole(b"*") => &replies::LOGIN_CANCELLED,
            Line::Whole(text) => match decode(text) {
                Some(response) => {
                    let next = exchange.respond(&response);
                    return self.follow(exchange, next, out);
                }
                None => &replies::BAD_BASE64,
            },
        };
        self.refuse(refusal, out);
        None
    }

    pub(in crate::receive) fn login_answered(&mut self, answer: auth::Answer, out: &mut Vec<u8>) {
        let State::LoginAsked(mut exchange) = mem::replace(&mut self.state, State::Idle) else {
            panic!("nobody is logging in");
        };
        let next = exchange.answer(answer);
        let step = self.follow(exchange, next, out);
        assert!(step.is_none(), "an answer leads to a challenge or to the end");
    }

    fn follow(&mut self, exchange: Box<Exchange>, next: Next, out: &mut Vec<u8>) -> Option<Step> {
        match next {
            Next::Challenge(challenge) => {
                replies::challenge(&challenge, out);
                self.state = State::Responding(exchange);
                None
            }
            Next::Ask => {
                self.state = State::LoginAsked(exchange);
                Some(Step::Login(LoginTicket(())))
            }
            Next::End(end) => {
                self.end_login(end, out);
                None
            }
        }
    }

    fn end_login(&mut self, end: End, out: &mut Vec<u8>) {
        match end {
            End::Granted(user) => {
                self.login.user = Some(user);
                out.extend_from_slice(replies::LOGGED_IN);
            }
            End::Denied => {
                self.login.failures += 1;
                if self.login.failures > self.profile.login_failures_max {
                    let reason = CloseReason::TooManyFailedLogins;
                    return self.hang_up(&replies::TOO_MANY_FAILED_LOGINS, reason, out);
                }
                self.refuse(&replies::LOGIN_DENIED, out);
            }
            End::Unavailable => self.refuse(&replies::LOGIN_UNAVAILABLE, out),
            End::Malformed => self.refuse(&replies::LOGIN_MALFORMED, out),
        }
    }
}

/// Strictly: padded, no other characters, nothing left over.
fn decode(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}
