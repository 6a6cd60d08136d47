//! Reports to a message's sender (RFC 3464): of failure, so that nothing is dropped in silence, and of delay and
//! success where they were asked for (RFC 3461).
//!
//! A report is a message of three parts: a text for people, a status for programs, and the original or its header
//! block. What comes from outside (replies, names, the original) leaves neither its line nor its part.
//!
//! UTF-8: a plain report is ASCII throughout, and any next hop can take it; other characters of replies and
//! of the original become `?`. When an address or the original needs UTF-8 ([`Report::is_utf8`]), the types
//! are `message/global-delivery-status` and `message/global-headers` (RFC 6533), all parts are UTF-8, and the
//! report's envelope must say SMTPUTF8 and 8BITMIME. Addresses are not converted between the forms.

use crate::parameters::shown_original;
use crate::trace::header_lines;
use crate::{Address, BodyType, Class, Enhanced, MessageId, Reply, WallTime, xtext};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use memchr::{memmem, memrchr};

/// Most bytes of the original's header block that are returned; lines beyond are left out.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a reply's text, or of a next hop's name, that are shown; the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest line that is written; RFC 5322 section 2.1.1 allows 998. Longer ones are split.
const LINE_BYTES_MAX: usize = 900;
/// Where lines are folded when there is a space to do so.
const FOLD_COLUMN: usize = 76;

/// What is to be told of a message that some of its recipients have, or have not.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The identity of the report, which is a new message.
    pub id: MessageId,
    /// When the report is made.
    pub at: WallTime,
    /// The original's sender, to whom the report goes.
    pub sender: &'a Address,
    /// The original's identity here.
    pub original: MessageId,
    /// The original's `ENVID`, in xtext.
    pub envelope_id: Option<&'a str>,
    /// When the original was accepted.
    pub arrived: WallTime,
    /// What became of the recipients.
    pub action: Action,
    /// The recipients it is about; at least one.
    pub recipients: &'a [Told],
    /// The original, or its header block.
    pub message: &'a [u8],
    /// What the original is when all of it is returned; otherwise only the header block is.
    pub full: Option<BodyType>,
    /// The original was given to us with SMTPUTF8.
    pub utf8: bool,
}

/// What became of a recipient (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Will not get the message.
    Failed,
    /// Has not got it yet; it is tried until then.
    Delayed(WallTime),
    /// A next hop has it that makes no reports of its own.
    Relayed,
}

/// What the sender is told of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The recipient.
    pub recipient: Address,
    /// The original recipient, as `ORCPT` had it.
    pub original: Option<String>,
    /// The last reply. A failure whose reply is not permanent means that the time for trying again is over.
    pub reply: Reply,
    /// The next hop that gave the reply, when there was one.
    pub next_hop: Option<String>,
}

impl Report<'_> {
    /// What the report's envelope must say of its content.
    pub fn body(&self) -> BodyType {
        match self.full {
            Some(BodyType::EightBit) => BodyType::EightBit,
            _ if self.is_utf8() => BodyType::EightBit,
            _ => BodyType::SevenBit,
        }
    }

    /// Whether the report holds UTF-8, so that its envelope must say SMTPUTF8 and 8BITMIME.
    pub fn is_utf8(&self) -> bool {
        self.utf8 || self.sender.is_utf8() || self.recipients.iter().any(|told| told.recipient.is_utf8())
    }
}

/// The header block of `content`, without the empty line that ends it.
pub fn headers(content: &[u8]) -> &[u8] {
    &content[..header_lines(content).map(<[u8]>::len).sum()]
}

/// The report as a whole message, lines ended by CRLF, to be sent with the null reverse-path (RFC 3464).
pub fn report(report: &Report<'_>) -> Vec<u8> {
    let utf8 = report.is_utf8();
    let parts = [
        (
            if utf8 { "text/plain; charset=utf-8" } else { "text/plain; charset=us-ascii" },
            human(report).into(),
        ),
        (
            if utf8 { "message/global-delivery-status" } else { "message/delivery-status" },
            status(report).into_bytes(),
        ),
        match report.full {
            Some(_) => (if utf8 { "message/global" } else { "message/rfc822" }, report.message.to_vec()),
            None => {
                (if utf8 { "message/global-headers" } else { "text/rfc822-headers" }, original(report).into())
            }
        },
    ];
    let eight_bit = report.body() == BodyType::EightBit;
    let encoding = if eight_bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
    let boundary = boundary(report, &parts.each_ref().map(|(_, text)| &text[..]));
    let mut out = front(report, &boundary).into_bytes();
    out.extend_from_slice(encoding.as_bytes());
    for (kind, text) in &parts {
        let head = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{encoding}\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(text);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

/// The report's own header fields.
fn front(report: &Report<'_>, boundary: &str) -> String {
    let host = shown(report.hostname, report.is_utf8());
    format!(
        "From: Mail delivery <MAILER-DAEMON@{host}>\r\n\
         To: <{to}>\r\n\
         Subject: {subject}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n",
        to = report.sender,
        subject = match report.action {
            Action::Failed => "Your message could not be delivered",
            Action::Delayed(_) => "Your message is delayed",
            Action::Relayed => "Your message was handed on",
        },
        date = report.at.rfc5322(),
        id = report.id,
    )
}

/// A boundary that no part holds: whoever writes the original might guess the identities.
fn boundary(report: &Report<'_>, parts: &[&[u8]]) -> String {
    let mut boundary = format!("{}-{}", report.id, report.original);
    // Each round rules out a text that is really there, and the parts hold only so many.
    for round in 0u32.. {
        if parts.iter().all(|part| memmem::find(part, boundary.as_bytes()).is_none()) {
            break;
        }
        boundary = format!("{}-{}-{round}", report.id, report.original);
    }
    boundary
}

/// The part for people.
fn human(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let mut out = String::new();
    let host = shown(report.hostname, utf8);
    let became = match report.action {
        Action::Failed => {
            "could not be delivered to the following recipients. No further attempt will be made.".into()
        }
        Action::Delayed(until) => format!(
            "could not be delivered yet to the following recipients. It is tried again until {}; there is nothing \
             that you have to do.",
            until.rfc5322()
        ),
        Action::Relayed => {
            "was handed on for the following recipients, to servers that do not tell when it is \
             delivered. There may be no further report."
                .into()
        }
    };
    push_folded(
        &mut out,
        "",
        &format!(
            "Your message, accepted by {host} on {} as {}, {became}",
            report.arrived.rfc5322(),
            report.original
        ),
    );
    for told in report.recipients {
        out.push_str(&format!("\r\n<{}>\r\n", told.recipient));
        if report.action == Action::Failed && told.reply.class() != Class::Permanent {
            out.push_str("  The time for trying again is over. The last reply was:\r\n");
        }
        let said = match &told.next_hop {
            Some(next_hop) => format!("{} said: {}", shown(next_hop, utf8), diagnostic(&told.reply, utf8)),
            None => diagnostic(&told.reply, utf8),
        };
        push_folded(&mut out, "  ", &said);
    }
    out
}

/// The part for programs (RFC 3464 section 2.1): fields for the message, then a group for each recipient.
fn status(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let mut out = String::new();
    if let Some(id) = report.envelope_id.and_then(xtext::decode) {
        // Not folded, as are all values in which spaces matter; it is short.
        out.push_str(&format!("Original-Envelope-Id: {}\r\n", shown(&String::from_utf8_lossy(&id), utf8)));
    }
    push_folded(&mut out, "Reporting-MTA: ", &format!("dns; {}", shown(report.hostname, utf8)));
    out.push_str(&format!("Arrival-Date: {}\r\n", report.arrived.rfc5322()));
    for told in report.recipients {
        out.push_str("\r\n");
        if let Some(original) = &told.original
            && let (Some((kind, _)), Some(address)) = (original.split_once(';'), shown_original(original))
        {
            out.push_str(&format!("Original-Recipient: {kind}; {}\r\n", shown(&address, utf8)));
        }
        // RFC 6533 section 3: the address type says whether it is UTF-8. Not folded: spaces in quotes matter.
        let kind = if told.recipient.is_utf8() { "utf-8" } else { "rfc822" };
        out.push_str(&format!("Final-Recipient: {kind}; {}\r\n", told.recipient));
        let action = match report.action {
            Action::Failed => "failed",
            Action::Delayed(_) => "delayed",
            Action::Relayed => "relayed",
        };
        out.push_str(&format!("Action: {action}\r\nStatus: {}\r\n", status_code(report.action, &told.reply)));
        if let Some(next_hop) = &told.next_hop {
            push_folded(&mut out, "Remote-MTA: ", &format!("dns; {}", shown(next_hop, utf8)));
        }
        push_folded(&mut out, "Diagnostic-Code: ", &format!("smtp; {}", diagnostic(&told.reply, utf8)));
        if let Action::Delayed(until) = report.action {
            out.push_str(&format!("Will-Retry-Until: {}\r\n", until.rfc5322()));
        }
    }
    out
}

/// RFC 3463: 5.0.0 is a permanent failure of an unknown kind, 4.4.7 says that the time for delivery is over.
fn status_code(action: Action, reply: &Reply) -> Enhanced {
    match (action, reply.enhanced, reply.class()) {
        (Action::Failed, Some(enhanced @ Enhanced(4..=5, ..)), _)
        | (Action::Delayed(_), Some(enhanced @ Enhanced(4, ..)), _)
        | (Action::Relayed, Some(enhanced @ Enhanced(2, ..)), _) => enhanced,
        (Action::Failed, _, Class::Permanent) => Enhanced(5, 0, 0),
        (Action::Failed, ..) => Enhanced(4, 4, 7),
        (Action::Delayed(_), ..) => Enhanced(4, 0, 0),
        (Action::Relayed, ..) => Enhanced(2, 0, 0),
    }
}

/// The original's header block, its lines made fit to be sent.
fn original(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let block = headers(report.message);
    let most = block.len().min(HEADERS_BYTES_MAX);
    let whole_lines = match memrchr(b'\n', &block[..most]) {
        Some(end) if most < block.len() => end + 1,
        _ => most,
    };
    let mut out = String::new();
    for line in header_lines(&block[..whole_lines]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text: String = String::from_utf8_lossy(line).chars().map(|c| harmless(c, utf8)).collect();
        let mut rest = text.as_str();
        while rest.len() > LINE_BYTES_MAX {
            let (first, after) = split_near(rest, LINE_BYTES_MAX);
            out.push_str(first);
            out.push_str("\r\n ");
            rest = after;
        }
        out.push_str(rest);
        out.push_str("\r\n");
    }
    out
}

/// The reply on one line.
fn diagnostic(reply: &Reply, utf8: bool) -> String {
    let (text, _) = split_near(&reply.text, TEXT_BYTES_MAX);
    let bounded = Reply { code: reply.code, enhanced: reply.enhanced, text: Cow::Owned(text.into()) };
    shown(&format!("{bounded}"), utf8)
}

/// A text from outside on one line, cut at [`TEXT_BYTES_MAX`] (and some more for the code of a reply).
fn shown(text: &str, utf8: bool) -> String {
    let (text, _) = split_near(text, TEXT_BYTES_MAX + 32);
    text.chars().map(|c| if c == '\t' { ' ' } else { harmless(c, utf8) }).collect()
}

fn harmless(c: char, utf8: bool) -> char {
    let fits = c == '\t' || (!c.is_control() && (utf8 || c.is_ascii()));
    if fits { c } else { '?' }
}

/// Splits `text` at `at` bytes, or before the character there; all of a shorter text comes first.
fn split_near(text: &str, at: usize) -> (&str, &str) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.split_at(at)
}

/// Appends `start` and the words of `text`, folded: continued lines begin with two spaces.
fn push_folded(out: &mut String, start: &str, text: &str) {
    out.push_str(start);
    let mut column = start.len();
    let mut is_first = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let (piece, after) = split_near(rest, LINE_BYTES_MAX);
            if !is_first && (column + 1 + piece.len() > FOLD_COLUMN) {
                out.push_str("\r\n  ");
                column = 2;
            } else if !is_first {
                out.push(' ');
                column += 1;
            }
            out.push_str(piece);
            column += piece.len();
            is_first = false;
            rest = after;
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests;
