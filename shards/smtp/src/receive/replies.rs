//! What a receiving session says. Replies that are the same every time and mean success are bytes ready to send.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail::{Enhanced, MessageId, Reply};

use crate::command::CommandError;

pub(super) const SENDER_OK: &[u8] = b"250 2.1.0 Ok\r\n";
pub(super) const RECIPIENT_OK: &[u8] = b"250 2.1.5 Ok\r\n";
pub(super) const OK: &[u8] = b"250 2.0.0 Ok\r\n";
pub(super) const BYE: &[u8] = b"221 2.0.0 Bye\r\n";
pub(super) const START_CONTENT: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";
pub(super) const CHUNK_TAKEN: &[u8] = b"250 2.0.0 Ok, chunk taken\r\n";
pub(super) const NOT_VERIFIED: &[u8] = b"252 2.0.0 Send some mail, and we will try\r\n";
pub(super) const COMMANDS: &[u8] = b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n";

const fn reply(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply {
    let (class, subject, detail) = enhanced;
    Reply { code, enhanced: Some(Enhanced(class, subject, detail)), text: Cow::Borrowed(text) }
}

pub(super) static LINE_TOO_LONG: Reply = reply(500, (5, 5, 2), "Line too long");
pub(super) static LOGIN_LINE_TOO_LONG: Reply =
    reply(500, (5, 5, 6), "Authentication exchange line is too long");
static BAD_BYTES: Reply = reply(500, (5, 5, 2), "Lines end with CR LF and hold UTF-8 without NUL, CR or LF");
static UNKNOWN: Reply = reply(500, (5, 5, 1), "Command not recognized");
pub(super) static NOT_IMPLEMENTED: Reply = reply(502, (5, 5, 1), "Command not implemented");
static BAD_ARGUMENT: Reply = reply(501, (5, 5, 4), "Syntax error in the argument");
static BAD_CHUNK_SIZE: Reply = reply(501, (5, 5, 4), "Bad size of a chunk, closing the connection");
pub(super) static BAD_PARAMETER: Reply = reply(555, (5, 5, 4), "Parameter not recognized or not implemented");

pub(super) static EHLO_FIRST: Reply = reply(503, (5, 5, 1), "Send EHLO or HELO first");
pub(super) static MAIL_FIRST: Reply = reply(503, (5, 5, 1), "Send MAIL first");
pub(super) static MAIL_TWICE: Reply = reply(503, (5, 5, 1), "The sender is known already");
pub(super) static NO_RECIPIENTS: Reply = reply(554, (5, 5, 1), "No valid recipients");

pub(super) static CHUNKS_BEGUN: Reply = reply(503, (5, 5, 1), "Send BDAT or RSET");
pub(super) static BINARY_IN_DATA: Reply = reply(503, (5, 5, 1), "BINARYMIME needs BDAT");

pub(super) static BAD_SENDER: Reply = reply(501, (5, 1, 7), "Bad sender address");
pub(super) static BAD_RECIPIENT: Reply = reply(501, (5, 1, 3), "Bad recipient address");
pub(super) static NEEDS_SMTPUTF8: Reply = reply(553, (5, 6, 7), "Addresses in UTF-8 need SMTPUTF8");
pub(super) static TOO_MANY_RECIPIENTS: Reply = reply(452, (4, 5, 3), "Too many recipients");

pub(super) static TOO_LARGE: Reply = reply(552, (5, 3, 4), "Message too large");
pub(super) static BARE_LINE_END: Reply = reply(550, (5, 6, 11), "Content holds a bare CR or LF");
pub(super) static LOOP: Reply = reply(554, (5, 4, 6), "Too many hops");

pub(super) const LOGGED_IN: &[u8] = b"235 2.7.0 Authentication successful\r\n";
pub(super) static LOGIN_TWICE: Reply = reply(503, (5, 5, 1), "Already authenticated");
pub(super) static LOGIN_IN_TRANSACTION: Reply = reply(503, (5, 5, 1), "Not during a mail transaction");
pub(super) static LOGIN_CANCELLED: Reply = reply(501, (5, 7, 0), "Authentication cancelled");
pub(super) static LOGIN_REQUIRED: Reply = reply(530, (5, 7, 0), "Authentication required");
pub(super) static LOGIN_NEEDS_TLS: Reply =
    reply(538, (5, 7, 11), "Encryption required for requested authentication mechanism");
pub(super) static LOGIN_DENIED: Reply = reply(535, (5, 7, 8), "Authentication credentials invalid");
pub(super) static LOGIN_UNAVAILABLE: Reply = reply(454, (4, 7, 0), "Temporary authentication failure");
pub(super) static LOGIN_MALFORMED: Reply = reply(501, (5, 5, 2), "Not what the mechanism asks for");
pub(super) static BAD_BASE64: Reply = reply(501, (5, 5, 2), "Cannot decode base64");
pub(super) static NO_SUCH_MECHANISM: Reply = reply(504, (5, 5, 4), "Unrecognized authentication mechanism");
pub(super) static TOO_MANY_FAILED_LOGINS: Reply = reply(421, (4, 7, 0), "Too many failed authentications");

pub(super) static TOO_MANY_ERRORS: Reply = reply(421, (4, 7, 0), "Too many errors");
pub(super) static TOO_MANY_IDLE_COMMANDS: Reply =
    reply(421, (4, 7, 0), "Too many commands without a message");
pub(super) static TOO_MANY_TRANSACTIONS: Reply = reply(421, (4, 7, 0), "Too many transactions");
pub(super) static TIMED_OUT: Reply = reply(421, (4, 4, 2), "Timed out");
pub(super) static STOPPING: Reply = reply(421, (4, 3, 2), "Shutting down");

/// The reply to a line that is no command.
pub(super) fn of_error(error: CommandError) -> &'static Reply {
    match error {
        CommandError::Bytes => &BAD_BYTES,
        CommandError::Unknown => &UNKNOWN,
        CommandError::NotImplemented => &NOT_IMPLEMENTED,
        CommandError::Argument => &BAD_ARGUMENT,
        CommandError::Parameter => &BAD_PARAMETER,
        CommandError::ChunkSize => &BAD_CHUNK_SIZE,
    }
}

pub(super) fn greeting(hostname: &str, out: &mut Vec<u8>) {
    write(out, format_args!("220 {hostname} ESMTP\r\n"));
}

pub(super) fn hello(hostname: &str, out: &mut Vec<u8>) {
    write(out, format_args!("250 {hostname}\r\n"));
}

pub(super) fn queued(id: MessageId, out: &mut Vec<u8>) {
    write(out, format_args!("250 2.0.0 Ok: queued as {id}\r\n"));
}

/// A challenge (RFC 4954 section 4).
pub(super) fn challenge(challenge: &[u8], out: &mut Vec<u8>) {
    write(out, format_args!("334 {}\r\n", BASE64.encode(challenge)));
}

fn write(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing to memory cannot fail.
    let _: fmt::Result = Bytes(out).write_fmt(text);
}
