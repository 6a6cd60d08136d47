//! The service extensions that a receiving session announces: only what it really does.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use auth::Mechanism;

/// Command pipelining (RFC 2920).
pub const PIPELINING: &str = "PIPELINING";
/// Message size declaration (RFC 1870); the largest size follows, in bytes.
pub const SIZE: &str = "SIZE";
/// 8-bit content (RFC 6152).
pub const EIGHT_BIT_MIME: &str = "8BITMIME";
/// The BDAT command (RFC 3030 section 2).
pub const CHUNKING: &str = "CHUNKING";
/// Content that is no sequence of lines (RFC 3030 section 3).
pub const BINARYMIME: &str = "BINARYMIME";
/// Reports to the sender, and what identifies a message in them (RFC 3461).
pub const DSN: &str = "DSN";
/// UTF-8 in addresses and headers (RFC 6531).
pub const SMTPUTF8: &str = "SMTPUTF8";
/// Enhanced status codes in replies (RFC 2034).
pub const ENHANCED_STATUS_CODES: &str = "ENHANCEDSTATUSCODES";
/// Authentication (RFC 4954); the mechanisms follow.
pub const AUTH: &str = "AUTH";
/// By when a message shall be delivered (RFC 2852); without a smallest time.
pub const DELIVERBY: &str = "DELIVERBY";
/// The priority of a message (RFC 6710).
pub const MT_PRIORITY: &str = "MT-PRIORITY";
/// Limits of a session (RFC 9422); they follow.
pub const LIMITS: &str = "LIMITS";
/// The HELP command (RFC 5321 section 4.1.1.8).
pub const HELP: &str = "HELP";

/// What a session offers beside what it always does.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    /// How clients can log in; AUTH is not offered when there is no way.
    pub mechanisms: &'a [Mechanism],
    /// Largest message, in bytes.
    pub message_bytes_max: u64,
    /// Most recipients of a transaction.
    pub recipients_max: usize,
    /// Most transactions of a session.
    pub transactions_max: u32,
}

impl Extensions<'_> {
    /// Appends the reply to EHLO (RFC 5321 section 4.1.1.1) of the host `hostname`.
    pub fn announce(&self, hostname: &str, out: &mut Vec<u8>) {
        let Extensions { mechanisms, message_bytes_max, recipients_max, transactions_max } = self;
        let mut text = String::with_capacity(320 + hostname.len());
        // Writing to a string cannot fail.
        let _: fmt::Result = write!(
            text,
            "250-{hostname}\r\n250-{PIPELINING}\r\n250-{SIZE} {message_bytes_max}\r\n250-{EIGHT_BIT_MIME}\r\n\
             250-{SMTPUTF8}\r\n250-{ENHANCED_STATUS_CODES}\r\n250-{CHUNKING}\r\n250-{BINARYMIME}\r\n\
             250-{DSN}\r\n250-{LIMITS} MAILMAX={transactions_max} RCPTMAX={recipients_max}\r\n\
             250-{DELIVERBY}\r\n250-{MT_PRIORITY}\r\n"
        );
        if !mechanisms.is_empty() {
            let _: fmt::Result = write!(text, "250-{AUTH}");
            let _: fmt::Result = mechanisms.iter().try_for_each(|one| write!(text, " {}", one.name()));
            text.push_str("\r\n");
        }
        let _: fmt::Result = write!(text, "250 {HELP}\r\n");
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_is_one_reply_of_several_lines() {
        let mut out = Vec::new();
        let mechanisms = &[Mechanism::Plain, Mechanism::Login];
        Extensions { mechanisms, message_bytes_max: 1000, recipients_max: 7, transactions_max: 9 }
            .announce("mx.example", &mut out);
        assert_eq!(
            core::str::from_utf8(&out),
            Ok("250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n\
                250-LIMITS MAILMAX=9 RCPTMAX=7\r\n250-DELIVERBY\r\n250-MT-PRIORITY\r\n250-AUTH PLAIN LOGIN\r\n250 HELP\r\n")
        );
    }
}
