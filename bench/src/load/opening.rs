//! What happens between a connection's greeting and its first message.

use std::fmt::{self, Debug, Formatter};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Config, Tls};
use crate::Transfer;

/// How to authenticate.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The exchange.
    pub mechanism: Mechanism,
    /// Who.
    pub user: String,
    /// And the proof.
    pub password: String,
}

impl Debug for Auth {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {}", self.mechanism, self.user)
    }
}

/// A kind of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mechanism {
    /// All in the command itself (RFC 4616).
    Plain,
    /// User and password when asked for.
    Login,
}

impl Auth {
    /// Line number `index` of our side of the exchange.
    pub(super) fn line(&self, index: usize) -> Option<String> {
        let Self { mechanism, user, password } = self;
        match (mechanism, index) {
            (Mechanism::Plain, 0) => {
                Some(format!("AUTH PLAIN {}", BASE64_STANDARD.encode(format!("\0{user}\0{password}"))))
            }
            (Mechanism::Login, 0) => Some("AUTH LOGIN".into()),
            (Mechanism::Login, 1) => Some(BASE64_STANDARD.encode(user)),
            (Mechanism::Login, 2) => Some(BASE64_STANDARD.encode(password)),
            _ => None,
        }
    }
}

/// What the server offered in its EHLO reply.
#[derive(Clone, Copy, Default)]
pub(super) struct Offers {
    pub(super) pipelining: bool,
    pub(super) size: bool,
    pub(super) eight_bit: bool,
    chunking: bool,
    start_tls: bool,
    plain: bool,
    login: bool,
}

/// What to do after an EHLO reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    StartTls,
    Auth,
    Messages,
    /// The server does not offer what the load needs.
    Lacks(&'static str),
}

impl Offers {
    /// Takes a line of the reply without its code.
    pub(super) fn learn(&mut self, line: &[u8]) {
        // Some servers write AUTH=PLAIN for the sake of very old clients.
        let mut words = line.split(|byte| matches!(byte, b' ' | b'=')).filter(|word| !word.is_empty());
        let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let name = words.next().unwrap_or_default();
        self.pipelining |= is(name, "PIPELINING");
        self.size |= is(name, "SIZE");
        self.eight_bit |= is(name, "8BITMIME");
        self.chunking |= is(name, "CHUNKING");
        self.start_tls |= is(name, "STARTTLS");
        if is(name, "AUTH") {
            for mechanism in words {
                self.plain |= is(mechanism, "PLAIN");
                self.login |= is(mechanism, "LOGIN");
            }
        }
    }

    /// The way from here to the first message, given what was done before.
    pub(super) fn opening(&self, config: &Config, secured: bool, authenticated: bool) -> Opening {
        if config.tls == Tls::StartTls && !secured {
            return if self.start_tls { Opening::StartTls } else { Opening::Lacks("STARTTLS") };
        }
        if config.transfer != Transfer::Data && !self.chunking {
            return Opening::Lacks("CHUNKING");
        }
        match config.auth.as_ref().map(|auth| auth.mechanism) {
            Some(_) if authenticated => Opening::Messages,
            Some(Mechanism::Plain) if !self.plain => Opening::Lacks("AUTH PLAIN"),
            Some(Mechanism::Login) if !self.login => Opening::Lacks("AUTH LOGIN"),
            Some(_) => Opening::Auth,
            None => Opening::Messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_first_message_depends_on_what_is_offered() {
        let offers = |lines: &[&str]| {
            let mut offers = Offers::default();
            lines.iter().for_each(|line| offers.learn(line.as_bytes()));
            offers
        };
        let all = offers(&["me", "StartTLS", "chunking", "AUTH PLAIN LOGIN"]);
        let auth = |mechanism| Some(Auth { mechanism, user: "u".into(), password: "p".into() });
        let plain = Config::default();
        let full = Config {
            tls: Tls::StartTls,
            transfer: Transfer::Bdat(5),
            auth: auth(Mechanism::Login),
            ..Config::default()
        };
        assert_eq!(offers(&["me"]).opening(&plain, false, false), Opening::Messages);
        assert_eq!(all.opening(&full, false, false), Opening::StartTls);
        assert_eq!(all.opening(&full, true, false), Opening::Auth);
        assert_eq!(all.opening(&full, true, true), Opening::Messages);
        assert_eq!(offers(&["me"]).opening(&full, false, false), Opening::Lacks("STARTTLS"));
        assert_eq!(offers(&["me"]).opening(&full, true, false), Opening::Lacks("CHUNKING"));
        let half = offers(&["CHUNKING", "AUTH=PLAIN"]);
        assert_eq!(half.opening(&full, true, false), Opening::Lacks("AUTH LOGIN"));
        let full = Config { auth: auth(Mechanism::Plain), ..full };
        assert_eq!(half.opening(&full, true, false), Opening::Auth);
        assert_eq!(offers(&["CHUNKING"]).opening(&full, true, false), Opening::Lacks("AUTH PLAIN"));
    }

    #[test]
    fn exchanges_are_spelled_as_the_standards_want() {
        let mut auth = Auth { mechanism: Mechanism::Plain, user: "tim".into(), password: "tanstaaf".into() };
        assert_eq!(auth.line(0).unwrap(), "AUTH PLAIN AHRpbQB0YW5zdGFhZg==");
        assert_eq!(auth.line(1), None);
        auth.mechanism = Mechanism::Login;
        let lines: Vec<_> = (0..4).map_while(|index| auth.line(index)).collect();
        assert_eq!(lines, ["AUTH LOGIN", "dGlt", "dGFuc3RhYWY="]);
        assert!(!format!("{auth:?}").contains("tanstaaf"));
    }
}
