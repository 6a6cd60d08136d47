//! What the content of a message can have wrong, and what is done about it: a table of [`Defect`] and [`Action`].
//!
//! [`Table::clean`] finds them and changes what the table says, and nothing else: a message without a defect that is
//! to be mended is passed on byte for byte.

pub mod mend;
#[cfg(test)]
mod tests;

use crate::trace::header_lines;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use mend::Origin;

/// Longest line without its CRLF (RFC 5322 section 2.1.1, RFC 5321 section 4.5.3.1.6).
pub const LINE_BYTES_MAX: usize = 998;

/// Something that a message should not have, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Defect {
    /// A CR or LF that is not part of CRLF (RFC 5321 section 2.3.8). Mended: it becomes CRLF.
    BareLineEnd,
    /// A NUL (RFC 5322 section 3.5 allows 1 to 127). Mended: left out.
    Nul,
    /// A line of more than [`LINE_BYTES_MAX`] bytes. Mended: CRLF and a space after so many.
    LongLine,
    /// A byte above 127 although the client declared neither 8BITMIME nor BINARYMIME (RFC 6152 section 3). Cannot be
    /// mended; accepted, it is declared to the next hop.
    UndeclaredEightBit,
    /// A line of the header that is neither a field nor the continuation of one (RFC 5322 section 2.2). Mended: the
    /// body begins there, behind an empty line.
    HeaderSyntax,
    /// No `Date` (RFC 5322 section 3.6). Mended: the time of acceptance.
    NoDate,
    /// No `From`. Mended: the sender of the envelope.
    NoFrom,
    /// No `Message-ID`, which a message should have. Mended: one made of its identity here.
    NoMessageId,
    /// A field twice that may be there once (RFC 5322 section 3.6). Mended: the first stays.
    RepeatedField,
    /// A `Return-Path`, which only the final delivery may add (RFC 5321 section 4.4). Mended: left out.
    ReturnPath,
    /// A `Bcc`, which tells the recipients of each other (RFC 5322 section 3.6.3). Mended: left out.
    Bcc,
}

/// All defects, in the order of the table.
pub const DEFECTS: [Defect; 11] = [
    Defect::BareLineEnd,
    Defect::Nul,
    Defect::LongLine,
    Defect::UndeclaredEightBit,
    Defect::HeaderSyntax,
    Defect::NoDate,
    Defect::NoFrom,
    Defect::NoMessageId,
    Defect::RepeatedField,
    Defect::ReturnPath,
    Defect::Bcc,
];

impl Defect {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Defect::BareLineEnd => "bare_line_end",
            Defect::Nul => "nul",
            Defect::LongLine => "long_line",
            Defect::UndeclaredEightBit => "undeclared_8bit",
            Defect::HeaderSyntax => "header_syntax",
            Defect::NoDate => "no_date",
            Defect::NoFrom => "no_from",
            Defect::NoMessageId => "no_message_id",
            Defect::RepeatedField => "repeated_field",
            Defect::ReturnPath => "return_path",
            Defect::Bcc => "bcc",
        }
    }

    /// Whether [`Action::Fix`] means anything.
    pub fn is_mendable(self) -> bool {
        self != Defect::UndeclaredEightBit
    }

    /// What the client is told when the message is refused for it.
    pub fn reason(self) -> &'static str {
        match self {
            Defect::BareLineEnd => "Bare CR or LF in the message, lines end with CRLF",
            Defect::Nul => "NUL in the message",
            Defect::LongLine => "Line longer than 998 bytes",
            Defect::UndeclaredEightBit => "8-bit content without BODY=8BITMIME",
            Defect::HeaderSyntax => "A line of the header is no field",
            Defect::NoDate => "No Date field",
            Defect::NoFrom => "No From field",
            Defect::NoMessageId => "No Message-ID field",
            Defect::RepeatedField => "A field is repeated that may be there once",
            Defect::ReturnPath => "Return-Path field in a message under way",
            Defect::Bcc => "Bcc field in a message under way",
        }
    }
}

/// What is done about a defect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    #[default]
    Accept,
    /// It is mended, and counted.
    Fix,
    /// The message is refused (554 5.6.0).
    Reject,
}

/// A set of defects.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Defects(u16);

impl Defects {
    /// No defect.
    pub const NONE: Defects = Defects(0);

    /// Adds one.
    pub fn insert(&mut self, defect: Defect) {
        self.0 |= 1 << defect as u8;
    }

    /// Whether it is among them.
    pub fn contains(self, defect: Defect) -> bool {
        self.0 & 1 << defect as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        DEFECTS.into_iter().filter(move |defect| self.contains(*defect))
    }

    /// Those in both.
    pub fn and(self, other: Defects) -> Defects {
        Defects(self.0 & other.0)
    }

    /// Those in either.
    pub fn or(self, other: Defects) -> Defects {
        Defects(self.0 | other.0)
    }
}

impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Defects {
        let mut all = Defects::NONE;
        defects.into_iter().for_each(|defect| all.insert(defect));
        all
    }
}

impl fmt::Debug for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What is done about each defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    fixed: Defects,
    rejected: Defects,
}

impl Default for Table {
    /// What could be read in two ways is refused, a `Return-Path` is left out, and everything else goes as it came.
    fn default() -> Table {
        let mut table = Table { fixed: Defects::NONE, rejected: Defects::NONE };
        table.set(Defect::BareLineEnd, Action::Reject);
        table.set(Defect::Nul, Action::Reject);
        table.set(Defect::ReturnPath, Action::Fix);
        table
    }
}

impl Table {
    /// Says what is done about `defect`. Panics when it cannot be mended and shall be.
    pub fn set(&mut self, defect: Defect, action: Action) {
        assert!(action != Action::Fix || defect.is_mendable(), "{} cannot be mended", defect.name());
        let bit = 1 << defect as u8;
        self.fixed.0 &= !bit;
        self.rejected.0 &= !bit;
        match action {
            Action::Accept => {}
            Action::Fix => self.fixed.0 |= bit,
            Action::Reject => self.rejected.0 |= bit,
        }
    }

    /// What is done about `defect`.
    pub fn action(&self, defect: Defect) -> Action {
        match (self.fixed.contains(defect), self.rejected.contains(defect)) {
            (true, _) => Action::Fix,
            (_, true) => Action::Reject,
            _ => Action::Accept,
        }
    }

    /// Those of `found` that are to be mended.
    pub fn to_mend(&self, found: Defects) -> Defects {
        found.and(self.fixed)
    }

    /// The first of `found` for which a message is refused.
    pub fn refusal(&self, found: Defects) -> Option<Defect> {
        found.and(self.rejected).iter().next()
    }

    /// Applies the table to a content of which `known` is known already ([`Defect::BareLineEnd`] and
    /// [`Defect::UndeclaredEightBit`]); an error is the defect for which the message is refused.
    pub fn clean(&self, content: &[u8], known: Defects, origin: &Origin<'_>) -> Result<Cleaned, Defect> {
        let findings = inspect(content);
        let mut mended = self.mendable(findings.defects.or(known))?;
        if mended.is_empty() {
            return Ok(Cleaned { content: None, mended, hops: findings.hops });
        }
        let mut text = Cow::Borrowed(content);
        if mended.contains(Defect::BareLineEnd) {
            text = Cow::Owned(mend::whole_line_ends(&text));
        }
        if mended.contains(Defect::Nul) {
            text = Cow::Owned(mend::without_nul(&text));
        }
        // The lines may be others now.
        let findings = inspect(&text);
        let rest = self.mendable(findings.defects)?;
        mended = mended.or(rest);
        if !rest.is_empty() {
            text = Cow::Owned(mend::mend(&text, rest, origin));
        }
        Ok(Cleaned { content: Some(text.into_owned()), mended, hops: findings.hops })
    }

    fn mendable(&self, found: Defects) -> Result<Defects, Defect> {
        self.refusal(found).map_or(Ok(self.to_mend(found)), Err)
    }
}

/// A message that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// What it became; `None` when it is passed on as it came.
    pub content: Option<Vec<u8>>,
    /// What was mended.
    pub mended: Defects,
    /// `Received` fields in its header.
    pub hops: usize,
}

/// What was found in a content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong with it, but for [`Defect::BareLineEnd`] and [`Defect::UndeclaredEightBit`], which the decoder
    /// of the content knows.
    pub defects: Defects,
    /// `Received` fields in its header.
    pub hops: usize,
}

/// Looks at a content whose lines end with CRLF. Any bytes will do.
pub fn inspect(content: &[u8]) -> Findings {
    let mut header = Header::default();
    for line in header_lines(content) {
        if !header.read(line) {
            break;
        }
    }
    let mut defects = header.defects();
    if memchr::memchr(0, content).is_some() {
        defects.insert(Defect::Nul);
    }
    if has_long_line(content) {
        defects.insert(Defect::LongLine);
    }
    Findings { defects, hops: header.hops }
}

/// The fields that were seen.
#[derive(Default)]
struct Header {
    seen: u16,
    repeated: bool,
    malformed: bool,
    /// A field was seen, so that a continuation continues something.
    begun: bool,
    hops: usize,
}

impl Header {
    /// Takes one line in, and says whether the header goes on.
    fn read(&mut self, line: &[u8]) -> bool {
        if self.begun && is_continuation(line) {
            return true;
        }
        let Some(name) = field_name(line) else {
            self.malformed = true;
            return false;
        };
        self.begun = true;
        if let Some(field) = Field::named(name) {
            self.take(field);
        }
        true
    }

    fn take(&mut self, field: Field) {
        let bit = 1 << field as u8;
        self.repeated |= field.is_single() && self.seen & bit != 0;
        self.seen |= bit;
        self.hops += usize::from(field == Field::Received);
    }

    fn has(&self, field: Field) -> bool {
        self.seen & 1 << field as u8 != 0
    }

    fn defects(&self) -> Defects {
        [
            (self.malformed, Defect::HeaderSyntax),
            (!self.has(Field::Date), Defect::NoDate),
            (!self.has(Field::From), Defect::NoFrom),
            (!self.has(Field::MessageId), Defect::NoMessageId),
            (self.repeated, Defect::RepeatedField),
            (self.has(Field::ReturnPath), Defect::ReturnPath),
            (self.has(Field::Bcc), Defect::Bcc),
        ]
        .into_iter()
        .filter_map(|(is_there, defect)| is_there.then_some(defect))
        .collect()
    }
}

/// A field that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    Received,
    ReturnPath,
    Date,
    From,
    MessageId,
    Bcc,
    Sender,
    ReplyTo,
    To,
    Cc,
    InReplyTo,
    References,
    Subject,
}

const FIELDS: [(Field, &[u8]); 13] = [
    (Field::Received, b"received"),
    (Field::ReturnPath, b"return-path"),
    (Field::Date, b"date"),
    (Field::From, b"from"),
    (Field::MessageId, b"message-id"),
    (Field::Bcc, b"bcc"),
    (Field::Sender, b"sender"),
    (Field::ReplyTo, b"reply-to"),
    (Field::To, b"to"),
    (Field::Cc, b"cc"),
    (Field::InReplyTo, b"in-reply-to"),
    (Field::References, b"references"),
    (Field::Subject, b"subject"),
];

impl Field {
    fn named(name: &[u8]) -> Option<Field> {
        FIELDS.iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(field, _)| *field)
    }

    /// RFC 5322 section 3.6: at most once.
    fn is_single(self) -> bool {
        !matches!(self, Field::Received | Field::ReturnPath)
    }
}

fn is_continuation(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// The name of the field that begins in `line`. RFC 5322 section 4.5.8: old mail may have white space in front of
/// the colon.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

/// Looks from the furthest point that a line may reach back to its end, so that most lines are never looked at.
fn has_long_line(content: &[u8]) -> bool {
    let mut rest = content;
    while rest.len() > LINE_BYTES_MAX {
        // With CRLF; or with LF alone, which the mended form will have as CRLF.
        let reach = &rest[..rest.len().min(LINE_BYTES_MAX + 2)];
        match memchr::memrchr(b'\n', reach) {
            Some(at) => rest = &rest[at + 1..],
            None => return true,
        }
    }
    false
}
