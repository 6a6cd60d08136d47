//! The content of a message as DATA carries it (RFC 5321 sections 4.1.1.4 and 4.5.2): dot-stuffed, and ended by
//! a line that holds a dot and nothing else.
//!
//! A line ends at CRLF and nowhere else. CR and LF alone are not content either (RFC 5321 section 2.3.8); they
//! are noted, so that the message can be refused after its true end. Relays that took them for line ends could
//! be made to see a second message inside the first.

use alloc::vec::Vec;

use memchr::memchr2;

/// Bytes that are looked at together. Small enough that the block with the end of data costs little, in which each
/// line is read by itself.
const BLOCK: usize = 256;

/// Decodes one message's content, however it is cut.
#[derive(Clone, Debug)]
pub struct Decoder {
    place: Place,
    size: u64,
    dotted: bool,
    eight_bit: bool,
    bare: bool,
}

/// What was read last.
///
/// ```text
///              other                  LF
///   LineStart ───────► Text ──CR──► Cr ───► LineStart
///       │               ▲ ▲          │ other: bare CR
///       │ "."     other │ └──────────┘
///       ▼               │
///      Dot ─────────────┤
///       │ CR            │ other: bare CR
///       ▼               │
///     DotCr ────────────┘
///       │ LF
///       ▼
///      End
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing, or CRLF.
    LineStart,
    /// A byte of a line.
    Text,
    /// CR in a line.
    Cr,
    /// A dot at the start of a line: stuffing, or the end.
    Dot,
    /// A line that is a dot so far, and CR.
    DotCr,
    /// CRLF "." CRLF. Nothing more is read.
    End,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder that stands where the content begins.
    pub const fn new() -> Decoder {
        Decoder { place: Place::LineStart, size: 0, dotted: false, eight_bit: false, bare: false }
    }

    /// Decodes `bytes`, appends what they hold to `content`, and returns how many belong to this message: all of
    /// them until the end has been seen. Whole runs are copied at once.
    pub fn decode(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> usize {
        content.reserve(bytes.len());
        self.run(bytes, Some(content))
    }

    /// As [`Decoder::decode`] for a message that is not wanted: nothing is kept.
    pub fn skip(&mut self, bytes: &[u8]) -> usize {
        self.run(bytes, None)
    }

    /// Whether the end has been seen.
    pub fn is_complete(&self) -> bool {
        self.place == Place::End
    }

    /// Bytes of content so far, without stuffing and without the final dot (RFC 1870 section 3), kept or not.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether some line of the content starts with a dot, so that sending it needs stuffing.
    pub fn is_dotted(&self) -> bool {
        self.dotted
    }

    /// Whether some byte of the content is no ASCII (RFC 6152).
    pub fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Whether some CR or LF stood alone. What was kept is then no message.
    pub fn has_bare_line_end(&self) -> bool {
        self.bare
    }

    fn run(&mut self, bytes: &[u8], mut content: Option<&mut Vec<u8>>) -> usize {
        // What lies between `kept` and `at` is content that has been read but not copied.
        let (mut kept, mut at) = (0, 0);
        while at < bytes.len() && self.place != Place::End {
            if let Some(place) = self.place.after_block(&bytes[at..]) {
                self.place = place;
                at += BLOCK;
                continue;
            }
            at = self.read_lines(bytes, at, (at + BLOCK).min(bytes.len()), &mut kept, &mut content);
        }
        self.keep(&bytes[kept..at], content);
        at
    }

    /// Reads from `at` to `end`, at least, or to the end of data, line by line.
    fn read_lines(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        end: usize,
        kept: &mut usize,
        content: &mut Option<&mut Vec<u8>>,
    ) -> usize {
        while at < end && self.place != Place::End {
            if self.place == Place::Text {
                let Some(length) = memchr2(b'\r', b'\n', &bytes[at..end]) else { return end };
                at += length;
            }
            let byte = bytes[at];
            let before = self.place;
            self.place = before.after(byte);
            match (before, byte) {
                // The dot, and the CR after it, are kept back: stuffing, or the end.
                (Place::LineStart, b'.') | (Place::Dot, b'\r') | (Place::DotCr, b'\n') => {
                    self.keep(&bytes[*kept..at], content.as_deref_mut());
                    *kept = at + 1;
                }
                (Place::Dot, b'.') => self.dotted = true,
                (Place::Cr, b'\n') => {}
                (Place::Cr | Place::DotCr, _) | (_, b'\n') => self.bare = true,
                _ => {}
            }
            at += 1;
        }
        at
    }

    fn keep(&mut self, piece: &[u8], content: Option<&mut Vec<u8>>) {
        self.size += piece.len() as u64;
        self.eight_bit = self.eight_bit || !piece.is_ascii();
        if let Some(content) = content {
            content.extend_from_slice(piece);
        }
    }
}

impl Place {
    /// The place after one more byte.
    fn after(self, byte: u8) -> Place {
        match (self, byte) {
            (Place::LineStart, b'.') => Place::Dot,
            (Place::Dot, b'\r') => Place::DotCr,
            (Place::DotCr, b'\n') => Place::End,
            (Place::Cr, b'\n') => Place::LineStart,
            (_, b'\r') => Place::Cr,
            _ => Place::Text,
        }
    }

    /// The place after a whole block at the start of `bytes`, if nothing in it needs a closer look: each CR before an
    /// LF, each LF behind a CR, no dot at the start of a line. One byte more must be there, to see what follows.
    fn after_block(self, bytes: &[u8]) -> Option<Place> {
        let block = bytes.first_chunk::<BLOCK>()?;
        let next = bytes.get(1..)?.first_chunk::<BLOCK>()?;
        let is_plain_start = match self {
            Place::Text => block[0] != b'\n',
            Place::LineStart => block[0] != b'\n' && block[0] != b'.',
            Place::Cr => block[0] == b'\n',
            Place::Dot | Place::DotCr | Place::End => false,
        };
        if !is_plain_start || !is_plain(block, next) {
            return None;
        }
        Some(match block[BLOCK - 1] {
            b'\r' => Place::Cr,
            b'\n' => Place::LineStart,
            _ => Place::Text,
        })
    }
}

/// Without branches, so that the compiler compares many bytes at once.
fn is_plain(block: &[u8; BLOCK], next: &[u8; BLOCK]) -> bool {
    let odd = |(byte, next): (&u8, &u8)| {
        u8::from((*byte == b'\r') != (*next == b'\n')) | (u8::from(*byte == b'\n') & u8::from(*next == b'.'))
    };
    block.iter().zip(next).map(odd).fold(0, |all, one| all | one) == 0
}

#[cfg(test)]
mod tests;
