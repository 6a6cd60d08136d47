//! What the load sends: bodies made once, heads stamped in place.

mod eml;
mod sizes;
mod template;

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::quantity::bytes;
use crate::{clock, varied};
pub(crate) use template::Template;

/// Bytes of all contents that a load chooses from together; more is an error.
const CONTENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Which messages to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of this size in bytes, headers included; a size below that of the headers gives a body of one
    /// line.
    Fixed(usize),
    /// Sizes between these two, evenly spread on a logarithmic scale, as sizes of mail are.
    Range(usize, usize),
    /// Sizes and how often each comes, relative to the others.
    Classes(Vec<(usize, u32)>),
    /// A mix of real-looking messages between 1 and 64 KiB, most of them small.
    Varied,
    /// The .eml files of a directory, one after the other in a random order.
    Eml(PathBuf),
}

/// How contents go over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// DATA, dots doubled, and a lone dot at the end.
    #[default]
    Data,
    /// BDAT (RFC 3030) in chunks of at most this many bytes.
    Bdat(usize),
}

impl FromStr for Transfer {
    type Err = String;

    /// Parses `data`, `bdat` (all in one chunk) or `bdat:16k`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "data" => Ok(Self::Data),
            None if text == "bdat" => Ok(Self::Bdat(usize::MAX)),
            Some(("bdat", chunk)) => bytes(chunk).map(Self::Bdat),
            _ => Err(format!("{text:?} is neither data nor bdat nor bdat:CHUNK")),
        }
    }
}

impl Display for Transfer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => write!(f, "data"),
            Self::Bdat(usize::MAX) => write!(f, "bdat"),
            Self::Bdat(chunk) => write!(f, "bdat:{chunk}"),
        }
    }
}

/// The messages that a load chooses from. Each thread has a clone of its own, which shares the bodies.
#[derive(Clone)]
pub(crate) struct Templates {
    templates: Vec<Template>,
    /// Indices of `templates`, as often as their weight says.
    wheel: Arc<[usize]>,
}

impl Templates {
    pub(crate) fn new(content: &Content, transfer: Transfer, sender: &str) -> io::Result<Self> {
        let mut rng = Rng::with_seed(1);
        let sized = |sizes: &[(usize, u32)]| sized(sizes, sender);
        let messages = match content {
            Content::Fixed(bytes) => sized(&[(*bytes, 1)])?,
            Content::Range(low, high) => sized(&sizes::spread(*low, *high))?,
            Content::Classes(classes) => sized(classes)?,
            Content::Varied => {
                varied::drafts(&mut rng).into_iter().map(|draft| draft.message(sender)).collect()
            }
            Content::Eml(directory) => eml::load(directory)?,
        };
        let mut wheel = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            wheel.extend(std::iter::repeat_n(index, message.weight));
        }
        if wheel.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no content to send"));
        }
        rng.shuffle(&mut wheel);
        let templates = messages.iter().map(|message| Template::new(message, transfer, sender)).collect();
        Ok(Self { templates, wheel: wheel.into() })
    }

    /// The template that message number `sequence` is made from, always the same one.
    pub(crate) fn of(&mut self, sequence: u32) -> &mut Template {
        let index = self.wheel[sequence as usize % self.wheel.len()];
        &mut self.templates[index]
    }
}

/// A message before it is stamped; all lines end with CRLF.
struct Message {
    /// How often it comes, relative to the others.
    weight: usize,
    headers: Vec<u8>,
    body: Vec<u8>,
}

/// A made-up message.
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

impl Draft {
    fn message(self, sender: &str) -> Message {
        let Draft { weight, from, subject, kind, body } = self;
        let now = Timestamp::from_nanosecond(clock::now().into()).unwrap_or_default();
        let date = DateTimePrinter::new().timestamp_to_string(&now).unwrap_or_default();
        let headers = format!(
            "From: {from} <{sender}>\r\nTo: subscribers: ;\r\nSubject: {subject}\r\nDate: {date}\r\n\
             MIME-Version: 1.0\r\nContent-Type: {kind}\r\n"
        );
        Message { weight, headers: headers.into_bytes(), body: body.into_bytes() }
    }
}

/// Messages of these sizes and weights.
fn sized(sizes: &[(usize, u32)], sender: &str) -> io::Result<Vec<Message>> {
    let total = sizes.iter().fold(0usize, |sum, (bytes, _)| sum.saturating_add(*bytes));
    if total > CONTENTS_BYTES_MAX {
        let text = format!("all sizes together are {total} bytes, at most {CONTENTS_BYTES_MAX} are kept");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(sizes.iter().map(|(bytes, weight)| fixed(*bytes, *weight as usize, sender)).collect())
}

fn fixed(bytes: usize, weight: usize, sender: &str) -> Message {
    let draft = Draft {
        weight,
        from: "Load",
        subject: format!("{bytes} bytes"),
        kind: "text/plain; charset=us-ascii".into(),
        body: String::new(),
    };
    let mut message = draft.message(sender);
    let room = bytes.saturating_sub(Template::new(&message, Transfer::Data, sender).bytes());
    message.body = filler(room.max(3)).into_bytes();
    message
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
    use crate::identity::{Arrival, Stamp, examine};
    use crate::transparency::unstuff;

    const STAMP: Stamp = Stamp { run: 1, sequence: 2, recipients: 1, time: 3 };

    fn templates(content: &Content, transfer: Transfer) -> Templates {
        Templates::new(content, transfer, "bench@sender.example").unwrap()
    }

    fn sent(template: &mut Template) -> Vec<u8> {
        let mut wire = Vec::new();
        template.stamp(&STAMP);
        template.write(&mut wire);
        let mut message = Vec::new();
        unstuff(wire.strip_suffix(b".\r\n").unwrap(), &mut message);
        message
    }

    #[test]
    fn fixed_content_has_the_size_asked_for() {
        for bytes in [500, 501, 577, 578, 579, 580, 581, 582, 583, 4096, 100_000] {
            let mut templates = templates(&Content::Fixed(bytes), Transfer::Data);
            let message = sent(templates.of(0));
            assert_eq!(message.len(), bytes);
            assert_eq!(examine(&message), Arrival::Intact(STAMP));
        }
    }

    #[test]
    fn varied_content_keeps_the_rules_of_mail() {
        let mut templates = templates(&Content::Varied, Transfer::Data);
        let mut stuffed = false;
        for template in &mut templates.templates {
            let message = sent(template);
            assert_eq!(examine(&message), Arrival::Intact(STAMP));
            assert_eq!(message.len(), template.bytes());
            assert!(message.len() < 64 * 1024);
            let mut wire = Vec::new();
            template.write(&mut wire);
            stuffed |= wire.len() > message.len() + 3;
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

    #[test]
    fn chunks_put_together_are_the_message() {
        for content in [Content::Fixed(1000), Content::Varied] {
            for chunk in [1, 7, 400, 999, 1000, usize::MAX] {
                let mut templates = templates(&content, Transfer::Bdat(chunk));
                let template = templates.of(3);
                template.stamp(&STAMP);
                let (mut message, mut index) = (Vec::new(), 0);
                loop {
                    let mut wire = Vec::new();
                    let last = template.write_chunk(index, chunk, &mut wire);
                    let end = memchr::memchr(b'\n', &wire).unwrap() + 1;
                    let command = str::from_utf8(&wire[..end]).unwrap();
                    let bytes = wire.len() - end;
                    let suffix = if last { " LAST" } else { "" };
                    assert_eq!(command, format!("BDAT {bytes}{suffix}\r\n"));
                    message.extend_from_slice(&wire[end..]);
                    index += 1;
                    if last {
                        break;
                    }
                    assert_eq!(bytes, chunk);
                }
                assert_eq!(message.len(), template.bytes());
                assert_eq!(examine(&message), Arrival::Intact(STAMP));
            }
        }
    }

    #[test]
    fn sizes_come_as_often_as_their_weight_says() {
        let content = Content::Classes(vec![(2000, 7), (20_000, 3)]);
        let mut templates = templates(&content, Transfer::Data);
        let small = (0..1000).filter(|&sequence| templates.of(sequence).bytes() == 2000).count();
        assert_eq!(small, 700);
        let too_much = Content::Classes(vec![(CONTENTS_BYTES_MAX, 1), (1, 1)]);
        assert!(Templates::new(&too_much, Transfer::Data, "a@b").is_err());
        assert!(Templates::new(&Content::Classes(vec![(100, 0)]), Transfer::Data, "a@b").is_err());
    }

    #[test]
    fn a_range_covers_every_magnitude_alike() {
        let mut templates = templates(&Content::Range(1024, 64 * 1024), Transfer::Data);
        let all: Vec<_> = (0..64).map(|sequence| templates.of(sequence).bytes()).collect();
        assert!(all.iter().all(|bytes| (1024..=64 * 1024).contains(bytes)));
        assert_eq!(all.iter().filter(|bytes| **bytes < 8 * 1024).count(), 32);
    }

    #[test]
    fn transfers_are_read_from_text() {
        for (text, transfer) in [
            ("data", Transfer::Data),
            ("bdat", Transfer::Bdat(usize::MAX)),
            ("bdat:4k", Transfer::Bdat(4096)),
        ] {
            assert_eq!(text.parse(), Ok(transfer));
        }
        assert_eq!(Transfer::Bdat(100).to_string(), "bdat:100");
        for wrong in ["", "bdat:", "bdat:0", "bdat:x", "data:5", "chunks"] {
            assert!(wrong.parse::<Transfer>().is_err(), "{wrong}");
        }
    }
}
