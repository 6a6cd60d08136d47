//! The content of a message as BDAT carries it (RFC 3030): in chunks of a stated size, byte for byte.
//!
//! Nothing in a chunk ends it but its size, so there is no stuffing and no end to look for. What the bytes are is
//! noted, since a content that is no sequence of lines may go on only to a next hop that takes chunks too.

use alloc::vec::Vec;

use mail::hygiene::LINE_BYTES_MAX;
use memchr::memchr2;

/// Decodes one message's content out of its chunks, however their bytes are cut.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// Bytes of this chunk.
    chunk: u64,
    /// Those that have not come yet.
    left: u64,
    is_last: bool,
    size: u64,
    last: Last,
    /// Bytes of the line so far, without its end.
    line: u64,
    eight_bit: bool,
    bare: bool,
    dotted: bool,
    long: bool,
    nul: bool,
}

/// What was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// Nothing, or CRLF.
    #[default]
    LineEnd,
    /// A byte of a line.
    Text,
    /// CR.
    Cr,
}

impl Decoder {
    /// Begins a chunk of `bytes`, once the one before is complete.
    pub fn begin(&mut self, bytes: u64, is_last: bool) {
        debug_assert!(self.left == 0 && !self.is_last, "a chunk begins inside another one");
        self.chunk = bytes;
        self.left = bytes;
        self.is_last = is_last;
        self.note_end();
    }

    /// Decodes `bytes`, appends those of this chunk to `content`, and returns how many they are.
    pub fn decode(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> usize {
        let used = self.skip(bytes);
        content.extend_from_slice(&bytes[..used]);
        used
    }

    /// As [`Decoder::decode`] for a message that is not wanted: nothing is kept.
    pub fn skip(&mut self, bytes: &[u8]) -> usize {
        let used = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= used as u64;
        self.size += used as u64;
        self.look_at(&bytes[..used]);
        self.note_end();
        used
    }

    /// Whether all bytes of the chunk have come.
    pub fn is_chunk_complete(&self) -> bool {
        self.left == 0
    }

    /// Whether the chunk has no bytes.
    pub fn is_chunk_empty(&self) -> bool {
        self.chunk == 0
    }

    /// Whether all bytes of the last chunk have come.
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.is_last
    }

    /// Bytes of content so far, kept or not.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the content ends in the middle of a line.
    pub fn ends_in_line(&self) -> bool {
        self.last != Last::LineEnd
    }

    /// Whether some line of the content starts with a dot, so that sending it with DATA needs stuffing.
    pub fn is_dotted(&self) -> bool {
        self.dotted
    }

    /// Whether some byte of the content is no ASCII (RFC 6152).
    pub fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Whether some CR or LF stood alone. CR at the end of a chunk may still find its LF in the next one.
    pub fn has_bare_line_end(&self) -> bool {
        self.bare
    }

    /// Whether the content can be had only as BINARYMIME (RFC 3030 section 3): it holds NUL, CR or LF alone, or a line
    /// that is too long or has no end. DATA would change it, or could not say it.
    pub fn is_binary(&self) -> bool {
        self.bare || self.nul || self.long || self.ends_in_line()
    }

    fn note_end(&mut self) {
        self.bare = self.bare || (self.is_complete() && self.last == Last::Cr);
    }

    fn look_at(&mut self, bytes: &[u8]) {
        self.eight_bit = self.eight_bit || !bytes.is_ascii();
        self.nul = self.nul || memchr::memchr(0, bytes).is_some();
        let mut at = 0;
        while at < bytes.len() {
            if self.last == Last::Text {
                let length = memchr2(b'\r', b'\n', &bytes[at..]).unwrap_or(bytes.len() - at);
                self.lengthen(length as u64);
                at += length;
            }
            if let Some(byte) = bytes.get(at) {
                self.read(*byte);
                at += 1;
            }
        }
    }

    fn read(&mut self, byte: u8) {
        match (self.last, byte) {
            (Last::Cr, b'\n') => {
                self.last = Last::LineEnd;
                self.line = 0;
                return;
            }
            (Last::Cr, _) | (_, b'\n') => self.bare = true,
            (Last::LineEnd, b'.') => self.dotted = true,
            _ => {}
        }
        match byte {
            b'\r' => self.last = Last::Cr,
            _ => {
                self.last = Last::Text;
                self.lengthen(1);
            }
        }
    }

    fn lengthen(&mut self, bytes: u64) {
        self.line += bytes;
        self.long = self.long || self.line > LINE_BYTES_MAX as u64;
    }
}

#[cfg(test)]
mod tests;
