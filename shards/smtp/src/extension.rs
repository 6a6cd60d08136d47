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
/// UTF-8 in addresses and headers (RFC 6531).
pub const SMTPUTF8: &str = "SMTPUTF8";
/// Enhanced status codes in replies (RFC 2034).
pub const ENHANCED_STATUS_CODES: &str = "ENHANCEDSTATUSCODES";
/// Authentication (RFC 4954); the mechanisms follow.
pub const AUTH: &str = "AUTH";
/// The HELP command (RFC 5321 section 4.1.1.8).
pub const HELP: &str = "HELP";

/// Appends the reply to EHLO (RFC 5321 section 4.1.1.1) of the host `hostname`, which takes messages of up to
/// `message_bytes_max` bytes and lets clients log in by `mechanisms`, if by any.
pub fn announce(hostname: &str, message_bytes_max: u64, mechanisms: &[Mechanism], out: &mut Vec<u8>) {
    let mut text = String::with_capacity(160 + hostname.len());
    // Writing to a string cannot fail.
    let _: fmt::Result = write!(
        text,
        "250-{hostname}\r\n250-{PIPELINING}\r\n250-{SIZE} {message_bytes_max}\r\n250-{EIGHT_BIT_MIME}\r\n\
         250-{SMTPUTF8}\r\n250-{ENHANCED_STATUS_CODES}\r\n"
    );
    if !mechanisms.is_empty() {
        let _: fmt::Result = write!(text, "250-{AUTH}");
        let _: fmt::Result = mechanisms.iter().try_for_each(|one| write!(text, " {}", one.name()));
        text.push_str("\r\n");
    }
    let _: fmt::Result = write!(text, "250 {HELP}\r\n");
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_is_one_reply_of_several_lines() {
        let mut out = Vec::new();
        announce("mx.example", 1000, &[Mechanism::Plain, Mechanism::Login], &mut out);
        assert_eq!(
            core::str::from_utf8(&out),
            Ok("250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                250-ENHANCEDSTATUSCODES\r\n250-AUTH PLAIN LOGIN\r\n250 HELP\r\n")
        );
    }
}
