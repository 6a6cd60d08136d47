//! What the load sends: bodies made once, stamped in place.

use std::ops::Range;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::identity::{self, HASH_HEADER, HASH_TEXT_BYTES, STAMP_HEADER, STAMP_TEXT_BYTES, Stamp};
use crate::{clock, transparency, varied};

/// Which messages to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of this size in bytes, headers included; a size below that of the headers gives a body of one
    /// line.
    Fixed(usize),
    /// A mix of real-looking messages between 1 and 64 KiB, most of them small.
    Varied,
}

/// The messages that a load chooses from, one set per thread.
pub(crate) struct Templates {
    templates: Vec<Template>,
    /// Indices of `templates`, as often as their weight says.
    wheel: Vec<usize>,
}

impl Templates {
    pub(crate) fn new(content: &Content, sender: &str) -> Self {
        let mut rng = Rng::with_seed(1);
        let now = Timestamp::from_nanosecond(clock::now().into()).unwrap_or_default();
        let date = DateTimePrinter::new().timestamp_to_string(&now).unwrap_or_default();
        let drafts = match content {
            Content::Fixed(bytes) => vec![fixed(*bytes, sender, &date)],
            Content::Varied => varied::drafts(&mut rng),
        };
        let mut wheel = Vec::new();
        for (index, draft) in drafts.iter().enumerate() {
            wheel.extend(std::iter::repeat_n(index, draft.weight));
        }
        rng.shuffle(&mut wheel);
        let templates = drafts.iter().map(|draft| Template::new(draft, sender, &date)).collect();
        Self { templates, wheel }
    }

    /// The template that message number `sequence` is made from, always the same one.
    pub(crate) fn of(&mut self, sequence: u32) -> &mut Template {
        let index = self.wheel[sequence as usize % self.wheel.len()];
        &mut self.templates[index]
    }
}

/// A message in the making.
pub(crate) struct Draft {
    /// How often it comes, relative to the others.
    pub(crate) weight: usize,
    pub(crate) from: &'static str,
    pub(crate) subject: String,
    /// The value of Content-Type, and further header lines if any.
    pub(crate) kind: String,
    /// Lines ended by CRLF.
    pub(crate) body: String,
}

/// A finished message as it goes over the wire, with places to patch.
pub(crate) struct Template {
    /// Dots doubled, end-of-data mark included.
    wire: Vec<u8>,
    hashes: Range<usize>,
    message_id: Range<usize>,
    stamp: Range<usize>,
    /// What the hash of the headers covers.
    block: Range<usize>,
    body_hash: u64,
    bytes: usize,
}

impl Template {
    fn new(draft: &Draft, sender: &str, date: &str) -> Self {
        let mut text = HASH_HEADER.to_vec();
        let hashes = placeholder(&mut text, HASH_TEXT_BYTES);
        text.extend_from_slice(b"\r\n");
        let start = text.len();
        let domain = sender.rsplit('@').next().unwrap_or(sender);
        let Draft { from, subject, kind, .. } = draft;
        let head = format!(
            "From: {from} <{sender}>\r\nTo: subscribers: ;\r\nSubject: {subject}\r\nDate: {date}\r\n\
             MIME-Version: 1.0\r\nContent-Type: {kind}\r\nMessage-ID: <"
        );
        text.extend_from_slice(head.as_bytes());
        // Run and sequence, which the stamp starts with, make the id unique.
        let message_id = placeholder(&mut text, 17);
        text.extend_from_slice(format!("@{domain}>\r\n").as_bytes());
        text.extend_from_slice(STAMP_HEADER);
        let stamp = placeholder(&mut text, STAMP_TEXT_BYTES);
        text.extend_from_slice(b"\r\n");
        let block = start..text.len();
        text.extend_from_slice(b"\r\n");
        let bytes = text.len() + draft.body.len();
        let body_hash = identity::hash(draft.body.as_bytes());
        transparency::stuff(draft.body.as_bytes(), &mut text);
        text.extend_from_slice(b".\r\n");
        Self { wire: text, hashes, message_id, stamp, block, body_hash, bytes }
    }

    /// Size in bytes without doubled dots and end-of-data mark, as the SIZE parameter wants it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the message, stamped, and its end-of-data mark.
    pub(crate) fn write(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        stamp.write(&mut self.wire[self.stamp.clone()]);
        let id = self.stamp.start..self.stamp.start + self.message_id.len();
        self.wire.copy_within(id, self.message_id.start);
        let headers = identity::hash(&self.wire[self.block.clone()]);
        identity::write_hashes(&mut self.wire[self.hashes.clone()], headers, self.body_hash);
        out.extend_from_slice(&self.wire);
    }
}

fn placeholder(text: &mut Vec<u8>, bytes: usize) -> Range<usize> {
    let start = text.len();
    text.resize(start + bytes, b'0');
    start..text.len()
}

fn fixed(bytes: usize, sender: &str, date: &str) -> Draft {
    let mut draft = Draft {
        weight: 1,
        from: "Load",
        subject: format!("{bytes} bytes"),
        kind: "text/plain; charset=us-ascii".into(),
        body: String::new(),
    };
    let room = bytes.saturating_sub(Template::new(&draft, sender, date).bytes);
    draft.body = filler(room.max(3));
    draft
}

/// Text of exactly this many bytes (at least 3) in lines of at most 78.
fn filler(bytes: usize) -> String {
    const LINE: &str = "All work and no play makes a relay fast, and every message has its own number.";
    let mut text = String::with_capacity(bytes);
    while bytes - text.len() > LINE.len() + 4 {
        text.push_str(LINE);
        text.push_str("\r\n");
    }
    let rest = bytes - text.len() - 2;
    text.extend(LINE.chars().chain("....".chars()).take(rest));
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Arrival, examine};

    const STAMP: Stamp = Stamp { run: 1, sequence: 2, recipients: 1, time: 3 };

    fn sent(template: &mut Template) -> Vec<u8> {
        let mut wire = Vec::new();
        template.write(&STAMP, &mut wire);
        let mut message = Vec::new();
        transparency::unstuff(wire.strip_suffix(b".\r\n").unwrap(), &mut message);
        message
    }

    #[test]
    fn fixed_content_has_the_size_asked_for() {
        for bytes in [500, 501, 577, 578, 579, 580, 581, 582, 583, 4096, 100_000] {
            let mut templates = Templates::new(&Content::Fixed(bytes), "bench@sender.example");
            let message = sent(templates.of(0));
            assert_eq!(message.len(), bytes);
            assert_eq!(examine(&message), Arrival::Intact(STAMP));
        }
    }

    #[test]
    fn varied_content_keeps_the_rules_of_mail() {
        let mut templates = Templates::new(&Content::Varied, "bench@sender.example");
        let mut stuffed = false;
        for template in &mut templates.templates {
            let message = sent(template);
            assert_eq!(examine(&message), Arrival::Intact(STAMP));
            assert_eq!(message.len(), template.bytes);
            assert!(message.len() < 64 * 1024);
            stuffed |= template.wire.len() > message.len() + 3;
            let mut rest = message.as_slice();
            while !rest.is_empty() {
                let end = memchr::memmem::find(rest, b"\r\n").expect("the message ends with CRLF");
                assert!(end <= 998, "RFC 5321 4.5.3.1.6");
                assert!(!rest[..end].iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                rest = &rest[end + 2..];
            }
        }
        assert!(stuffed, "some body has a line that starts with a dot");
    }
}
