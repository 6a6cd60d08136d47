//! Changes a content as far as its table of defects says.

use super::{Defect, Defects, Field, LINE_BYTES_MAX, field_name, is_continuation};
use crate::trace::{header_lines, lines};
use crate::{Address, MessageId, WallTime};
use alloc::vec::Vec;
use core::fmt::Write as _;
use memchr::memchr2_iter;

/// What fields that are missing are made of.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The message's identity here.
    pub id: MessageId,
    /// When it was accepted.
    pub at: WallTime,
    /// The reverse-path; `None` is the null one.
    pub sender: Option<&'a Address>,
}

/// `content` with every CR or LF that stood alone turned into CRLF.
pub fn whole_line_ends(content: &[u8]) -> Vec<u8> {
    let mut mended = Vec::with_capacity(content.len() + content.len() / 32);
    let mut from = 0;
    for at in memchr2_iter(b'\r', b'\n', content) {
        // The LF of a CRLF was written with its CR.
        if at < from {
            continue;
        }
        mended.extend_from_slice(&content[from..at]);
        mended.extend_from_slice(b"\r\n");
        let whole = content[at] == b'\r' && content.get(at + 1) == Some(&b'\n');
        from = at + 1 + usize::from(whole);
    }
    mended.extend_from_slice(&content[from..]);
    mended
}

/// `content` without its NULs.
pub fn without_nul(content: &[u8]) -> Vec<u8> {
    content.iter().copied().filter(|byte| *byte != 0).collect()
}

/// `content`, whose lines end with CRLF, without those of `defects` that are about fields and lines.
pub fn mend(content: &[u8], defects: Defects, origin: &Origin<'_>) -> Vec<u8> {
    let mut mended = Mended { out: Vec::with_capacity(content.len() + 256), defects };
    mended.missing_fields(origin);
    let body = mended.header(content);
    for line in lines(&content[body..]) {
        mended.line(line);
    }
    mended.out
}

struct Mended {
    out: Vec<u8>,
    defects: Defects,
}

impl Mended {
    fn missing_fields(&mut self, origin: &Origin<'_>) {
        let Origin { hostname, id, at, sender } = origin;
        let mut text = alloc::string::String::new();
        // Writing to a string cannot fail.
        if self.defects.contains(Defect::NoDate) {
            let _ = write!(text, "Date: {}\r\n", at.rfc5322());
        }
        if self.defects.contains(Defect::NoFrom) {
            let _ = match sender {
                Some(sender) => write!(text, "From: <{sender}>\r\n"),
                None => write!(text, "From: <postmaster@{hostname}>\r\n"),
            };
        }
        if self.defects.contains(Defect::NoMessageId) {
            let _ = write!(text, "Message-ID: <{id}@{hostname}>\r\n");
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes the header; says where the rest begins.
    fn header(&mut self, content: &[u8]) -> usize {
        let (mut at, mut seen) = (0, 0_u16);
        // Whether the field that continues is kept; `None` before the first.
        let mut field_kept = None;
        for line in header_lines(content) {
            let continued = field_kept.filter(|_| is_continuation(line));
            let Some(kept) = continued.or_else(|| self.keeps(line, &mut seen)) else {
                self.body_without_end_of_header(field_kept.is_none());
                return at;
            };
            field_kept = Some(kept);
            if kept {
                self.line(line);
            }
            at += line.len();
        }
        at
    }

    /// Ends the header where a line is no part of it. Without a field, those that were added want an end all the same.
    fn body_without_end_of_header(&mut self, no_field: bool) {
        let added = no_field && !self.out.is_empty();
        if added || self.defects.contains(Defect::HeaderSyntax) {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Whether the field that begins here stays; `None` when none does.
    fn keeps(&self, line: &[u8], seen: &mut u16) -> Option<bool> {
        let Some(field) = Field::named(field_name(line)?) else { return Some(true) };
        let bit = 1 << field as u8;
        let again = field.is_single() && *seen & bit != 0;
        *seen |= bit;
        let unwanted = match field {
            Field::ReturnPath => self.defects.contains(Defect::ReturnPath),
            Field::Bcc => self.defects.contains(Defect::Bcc),
            _ => false,
        };
        let repeated = again && self.defects.contains(Defect::RepeatedField);
        Some(!unwanted && !repeated)
    }

    fn line(&mut self, line: &[u8]) {
        let begun = self.out.len();
        self.out.extend_from_slice(line);
        if self.defects.contains(Defect::LongLine) {
            self.fold(begun);
        }
    }

    /// Breaks the line at the end of what was written into lines that are short enough.
    fn fold(&mut self, begun: usize) {
        let text_bytes =
            |line: &[u8]| line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line).len();
        if text_bytes(&self.out[begun..]) <= LINE_BYTES_MAX {
            return;
        }
        let line = self.out.split_off(begun);
        let mut rest = &line[..];
        let mut room = LINE_BYTES_MAX;
        while text_bytes(rest) > room {
            let (piece, after) = rest.split_at(boundary(rest, room));
            self.out.extend_from_slice(piece);
            self.out.extend_from_slice(b"\r\n ");
            rest = after;
            room = LINE_BYTES_MAX - 1;
        }
        self.out.extend_from_slice(rest);
    }
}

/// Where `line` is cut, `room` bytes on at most: not within a character of UTF-8.
fn boundary(line: &[u8], room: usize) -> usize {
    let is_inner = |at: &usize| line[*at] & 0xc0 == 0x80;
    (room - 3..=room).rev().find(|at| !is_inner(at)).unwrap_or(room)
}
