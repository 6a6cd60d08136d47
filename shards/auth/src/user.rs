//! What is known of a user.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use mail::Address;

use crate::{PasswordHash, ScramVerifier};

/// A user: who it is, and what it may do.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Its name, in the form of [`crate::name`].
    pub name: Box<str>,
    /// What `PLAIN` and `LOGIN` are checked against; the verifier when there is none.
    pub password: Option<PasswordHash>,
    /// What `SCRAM` is checked against; without it the user cannot use that.
    pub scram: Option<ScramVerifier>,
    /// Whom it may send as; when empty, nobody.
    pub senders: Vec<Sender>,
    /// On whose behalf it sends.
    pub tenant: Option<Box<str>>,
    /// Messages that it may send.
    pub messages: Option<Rate>,
    /// Recipients that it may send to.
    pub recipients: Option<Rate>,
    /// Whether it is shut out.
    pub disabled: bool,
}

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In how much time.
    pub per: Duration,
}

/// Whom a user may send as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// `*`: everybody.
    Any,
    /// `example.com`: every address in this domain.
    Domain(String),
    /// `.example.com`: every address in every domain below it.
    Below(String),
    /// `user@example.com`: this address. Upper and lower case are the same.
    Address(Address),
}

impl User {
    /// Whether it may send as `sender`. The null reverse-path is everybody's: reports and receipts need it.
    pub fn may_send_as(&self, sender: Option<&Address>) -> bool {
        sender.is_none_or(|sender| self.senders.iter().any(|allowed| allowed.permits(sender)))
    }
}

impl Sender {
    /// Reads `*`, `user@example.com`, `example.com` or `.example.com`.
    pub fn parse(text: &str) -> Option<Sender> {
        if text == "*" {
            return Some(Sender::Any);
        }
        if text.contains('@') {
            return Address::parse(text, true).ok().map(Sender::Address);
        }
        let lower = text.to_lowercase();
        match lower.strip_prefix('.') {
            Some(below) => mail::address::is_domain(below).then(|| Sender::Below(below.into())),
            None => mail::address::is_domain(&lower).then_some(Sender::Domain(lower)),
        }
    }

    fn permits(&self, sender: &Address) -> bool {
        match self {
            Sender::Any => true,
            Sender::Domain(domain) => sender.domain() == domain,
            Sender::Below(below) => {
                let rest = sender.domain().strip_suffix(below.as_str());
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Sender::Address(address) => {
                address.domain() == sender.domain() && address.local().eq_ignore_ascii_case(sender.local())
            }
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Any => f.write_str("*"),
            Sender::Domain(domain) => f.write_str(domain),
            Sender::Below(below) => write!(f, ".{below}"),
            Sender::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_user_sends_only_as_whom_it_may() {
        for (allowed, sender, may) in [
            ("*", "a@b.example", true),
            ("a@b.example", "A@B.example", true),
            ("a@b.example", "aa@b.example", false),
            ("b.example", "x@b.example", true),
            ("B.example", "x@a.b.example", false),
            (".b.example", "x@a.b.example", true),
            (".b.example", "x@b.example", false),
            (".b.example", "x@ab.example", false),
        ] {
            let sender = Address::parse(sender, false).unwrap();
            assert_eq!(Sender::parse(allowed).unwrap().permits(&sender), may, "{allowed} {sender}");
        }
    }

    #[test]
    fn senders_are_written_as_they_are_read() {
        for text in ["*", "a@b.example", "b.example", ".b.example"] {
            assert_eq!(Sender::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "a b", "@", "a@", "..", "a..b"] {
            assert_eq!(Sender::parse(bad), None, "{bad}");
        }
    }
}
