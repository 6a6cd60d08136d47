//! AUTH (RFC 4954) with PLAIN and LOGIN, for one user.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr;

use super::super::driver::Desk;
use super::{DISORDER, Reply, Session, State, UNKNOWN, say};

/// Who may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// What the next line of the client is.
#[derive(Debug)]
pub(super) enum Exchange {
    /// User and password in one.
    Plain,
    User,
    Password(Vec<u8>),
}

const CHALLENGE: Reply = say("334 \r\n");
const USER: Reply = say("334 VXNlcm5hbWU6\r\n");
const PASSWORD: Reply = say("334 UGFzc3dvcmQ6\r\n");
const WELCOME: Reply = say("235 2.7.0 Authenticated\r\n");
const WRONG: Reply = say("535 5.7.8 Wrong user or password\r\n");
const UNREADABLE: Reply = say("501 5.5.2 Not in base64, or cancelled\r\n");
const NO_MECHANISM: Reply = say("504 5.5.4 Only PLAIN and LOGIN\r\n");

impl Session {
    /// The command itself, which may bring the first response with it.
    pub(super) fn auth(&mut self, line: &[u8], desk: &Desk) -> Reply {
        if desk.credentials().is_none() {
            return UNKNOWN;
        }
        if self.authenticated || !matches!(self.state, State::Idle) {
            return DISORDER;
        }
        let rest = memchr(b' ', line).map_or(&b""[..], |space| line[space + 1..].trim_ascii());
        let (mechanism, response) = match memchr(b' ', rest) {
            Some(space) => (&rest[..space], Some(rest[space + 1..].trim_ascii())),
            None => (rest, None),
        };
        let (exchange, challenge) = match mechanism.to_ascii_uppercase().as_slice() {
            b"PLAIN" => (Exchange::Plain, CHALLENGE),
            b"LOGIN" => (Exchange::User, USER),
            _ => return NO_MECHANISM,
        };
        self.state = State::Auth(exchange);
        response.map_or(challenge, |response| self.respond(response, desk))
    }

    /// A line of the exchange.
    pub(super) fn respond(&mut self, line: &[u8], desk: &Desk) -> Reply {
        let State::Auth(exchange) = self.state.take() else { return DISORDER };
        let Ok(response) = BASE64_STANDARD.decode(line) else { return UNREADABLE };
        match exchange {
            Exchange::Plain => match *response.split(|&byte| byte == 0).collect::<Vec<_>>() {
                [_, user, password] => self.judge(user, password, desk),
                _ => UNREADABLE,
            },
            Exchange::User => {
                self.state = State::Auth(Exchange::Password(response));
                PASSWORD
            }
            Exchange::Password(user) => self.judge(&user, &response, desk),
        }
    }

    fn judge(&mut self, user: &[u8], password: &[u8], desk: &Desk) -> Reply {
        let right = desk.credentials();
        self.authenticated =
            right.is_some_and(|right| right.user.as_bytes() == user && right.password.as_bytes() == password);
        if self.authenticated { WELCOME } else { WRONG }
    }
}
