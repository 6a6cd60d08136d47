//! The service extensions that a receiving session announces: only what it really does.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

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
/// UTF-8 in addresses and headers (RFC 6531).
pub const SMTPUTF8: &str = "SMTPUTF8";
/// Enhanced status codes in replies (RFC 2034).
pub const ENHANCED_STATUS_CODES: &str = "ENHANCEDSTATUSCODES";
/// The HELP command (RFC 5321 section 4.1.1.8).
pub const HELP: &str = "HELP";

/// Appends the reply to EHLO (RFC 5321 section 4.1.1.1) of the host `hostname`, which takes messages of up to
/// `message_bytes_max` bytes.
pub fn announce(hostname: &str, message_bytes_max: u64, out: &mut Vec<u8>) {
    let mut text = String::with_capacity(256 + hostname.len());
    // Writing to a string cannot fail.
    let _: fmt::Result = write!(
        text,
        "250-{hostname}\r\n250-{PIPELINING}\r\n250-{SIZE} {message_bytes_max}\r\n250-{EIGHT_BIT_MIME}\r\n\
         250-{SMTPUTF8}\r\n250-{ENHANCED_STATUS_CODES}\r\n250-{CHUNKING}\r\n250-{BINARYMIME}\r\n\
         250 {HELP}\r\n"
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_is_one_reply_of_several_lines() {
        let mut out = Vec::new();
        announce("mx.example", 1000, &mut out);
        assert_eq!(
            core::str::from_utf8(&out),
            Ok("250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 HELP\r\n")
        );
    }
}
