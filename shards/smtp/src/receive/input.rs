//! Bytes that have come and are not used yet.

use alloc::vec::Vec;

use memchr::memchr_iter;

/// Between two waits it holds no more than one line that is not complete; when it holds nothing it has no memory.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// How much of `bytes` has been used.
    used: usize,
    line: Reading,
    source: Source,
}

#[derive(Debug, Default)]
enum Reading {
    /// The next byte begins a line, or goes on with one that may still be short enough.
    #[default]
    Line,
    /// The next byte goes on with a line that was too long; what it held is gone.
    LongLine,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Open,
    Ended,
}

/// A complete line.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Its bytes without CRLF.
    Whole(&'a [u8]),
    /// It was longer than the bound.
    TooLong,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// No more bytes will come.
    pub(super) fn end(&mut self) {
        self.source = Source::Ended;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.source == Source::Ended
    }

    /// What has not been used.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len());
    }

    /// The next line if it is complete: it ends at CRLF and nowhere else (RFC 5321 section 2.3.8). A line of more
    /// than `bytes_max` bytes with its CRLF is thrown away as it comes and reported when it ends.
    pub(super) fn line(&mut self, bytes_max: usize) -> Option<Line<'_>> {
        let start = self.used;
        let rest = &self.bytes[start..];
        let Some(length) = line_length(rest) else {
            // One byte more is needed at least, so a line of `bytes_max` without an end is too long.
            if matches!(self.line, Reading::LongLine) || rest.len() >= bytes_max {
                self.line = Reading::LongLine;
                let kept = usize::from(rest.last() == Some(&b'\r'));
                self.used = self.bytes.len() - kept;
            }
            return None;
        };
        self.used += length;
        match core::mem::take(&mut self.line) {
            Reading::Line if length <= bytes_max => Some(Line::Whole(&self.bytes[start..start + length - 2])),
            Reading::Line | Reading::LongLine => Some(Line::TooLong),
        }
    }

    /// Gives memory back before a wait.
    pub(super) fn settle(&mut self) {
        if self.rest().is_empty() {
            self.bytes = Vec::new();
        } else if self.used > 0 {
            // No longer than it need be: the chunk that it came in may have been large.
            self.bytes = self.rest().to_vec();
        }
        self.used = 0;
    }

    /// Throws away what has come.
    pub(super) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.used = 0;
    }

    /// Bytes of memory.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The length of the line that starts `bytes`, CRLF included.
fn line_length(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find(|at| *at > 0 && bytes[*at - 1] == b'\r').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec;

    /// The lines of `pieces` with a bound of 6 bytes, and what is left.
    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
        let mut input = Input::default();
        let mut lines = vec![];
        for piece in pieces {
            input.push(piece);
            while let Some(line) = input.line(6) {
                lines.push(match line {
                    Line::Whole(bytes) => String::from_utf8_lossy(bytes).to_string(),
                    Line::TooLong => "too long".to_string(),
                });
            }
            input.settle();
            assert!(input.rest().len() < 6);
            assert!(!input.rest().is_empty() || input.held() == 0);
        }
        (lines, input.rest().to_vec())
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        for stream in [
            "NOOP\r\n",
            "12345\r\n1234\r\n",
            "\r\n\r\n",
            "a\nb\r\n",
            "\r\r\n",
            "123456789\r\r\n\r\n1",
            "1234\r\r\n",
        ] {
            let whole = lines(&[stream.as_bytes()]).0;
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(lines(&bytes).0, whole, "{stream:?}");
            for cut in 0..stream.len() {
                let (first, second) = stream.as_bytes().split_at(cut);
                assert_eq!(lines(&[first, second]).0, whole, "{stream:?} at {cut}");
            }
        }
    }

    #[test]
    fn a_line_ends_at_crlf_only_and_the_bound_counts_it() {
        assert_eq!(lines(&[b"1234\r\n12345\r\nab\ncd"]).0, ["1234", "too long"]);
        assert_eq!(
            lines(&[b"a\nb\r\nc\rd\r\ne"]),
            (vec!["a\nb".to_string(), "c\rd".to_string()], b"e".to_vec())
        );
        assert_eq!(lines(&[&[b'x'; 5000], b"\r", b"\n", b"NOOP\r\n"]).0, ["too long", "NOOP"]);
    }
}
