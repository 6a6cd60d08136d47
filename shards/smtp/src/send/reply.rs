//! Reads replies out of a stream of bytes (RFC 5321 section 4.2).
//!
//! Liberal where it costs nothing: lines may end in LF alone, the text may be missing, not UTF-8 (replaced)
//! or hold control characters (made spaces). Strict where a mistake could pair a reply with a wrong command.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use mail::{Enhanced, Reply};
use memchr::memchr;

/// Longest line of a reply, its end included; RFC 5321 section 4.5.3.1.5 asks for 512.
pub const LINE_BYTES_MAX: usize = 2048;
/// Most bytes of one reply.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most lines of one reply.
pub const REPLY_LINES_MAX: usize = 128;
/// Most input buffer that is kept while there is nothing in it.
const INPUT_BYTES_KEPT: usize = 1024;

/// Why bytes are no reply. The stream is useless afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line is longer than [`LINE_BYTES_MAX`].
    LineTooLong,
    /// A reply is longer than [`REPLY_BYTES_MAX`].
    TooLong,
    /// A reply has more than [`REPLY_LINES_MAX`] lines.
    TooManyLines,
    /// A line does not begin with a code from 200 to 599 and a space, a hyphen or nothing.
    Code,
    /// The lines of one reply have different codes.
    CodesDiffer,
}

impl Malformed {
    /// What the peer did.
    pub fn as_str(self) -> &'static str {
        match self {
            Malformed::LineTooLong => "a line of a reply is too long",
            Malformed::TooLong => "a reply is too long",
            Malformed::TooManyLines => "a reply has too many lines",
            Malformed::Code => "a line without a reply code",
            Malformed::CodesDiffer => "a reply whose lines have different codes",
        }
    }
}

/// Bytes that came from the peer, and the replies in them. Holds at most what was fed last, a line, and three
/// times [`REPLY_BYTES_MAX`] of text (bytes that are not UTF-8 grow when replaced), if it is emptied before
/// each feeding.
#[derive(Debug, Default)]
pub struct Replies {
    input: Vec<u8>,
    /// So much of the input is read.
    taken: usize,
    /// The reply whose last line has not come yet.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    code: u16,
    enhanced: Option<Enhanced>,
    text: String,
    lines: usize,
    bytes: usize,
}

impl Replies {
    /// Appends what was received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Whether nothing is left, not even the beginning of a reply.
    pub fn is_empty(&self) -> bool {
        self.taken == self.input.len() && self.begun.is_none()
    }

    /// The next whole reply; `None` when more bytes are needed.
    pub fn pop(&mut self) -> Result<Option<Reply>, Malformed> {
        loop {
            let rest = &self.input[self.taken..];
            let end = memchr(b'\n', &rest[..rest.len().min(LINE_BYTES_MAX)]);
            let Some(end) = end else {
                if rest.len() >= LINE_BYTES_MAX {
                    return Err(Malformed::LineTooLong);
                }
                self.release();
                return Ok(None);
            };
            let line = Line::parse(&rest[..end])?;
            self.taken += end + 1;
            let begun = self.begun.get_or_insert_with(|| Begun::new(line.code));
            begun.add(&line, end + 1)?;
            if line.is_last {
                return Ok(self.begun.take().map(Begun::finish));
            }
        }
    }

    /// Forgets what is read, and the buffer too when it is empty and large.
    fn release(&mut self) {
        self.input.drain(..mem::take(&mut self.taken));
        if self.input.is_empty() && self.input.capacity() > INPUT_BYTES_KEPT {
            self.input = Vec::new();
        }
    }
}

impl Begun {
    fn new(code: u16) -> Begun {
        Begun { code, enhanced: None, text: String::new(), lines: 0, bytes: 0 }
    }

    fn add(&mut self, line: &Line<'_>, bytes: usize) -> Result<(), Malformed> {
        if line.code != self.code {
            return Err(Malformed::CodesDiffer);
        }
        self.lines += 1;
        self.bytes += bytes;
        if self.lines > REPLY_LINES_MAX {
            return Err(Malformed::TooManyLines);
        }
        if self.bytes > REPLY_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let (enhanced, plain) = split_enhanced(line.text, self.code);
        if self.lines == 1 {
            self.enhanced = enhanced;
        } else {
            self.text.push('\n');
        }
        // RFC 2034 section 4: each line repeats the code; a line with another one keeps it as text.
        let shown = if enhanced == self.enhanced { plain } else { line.text };
        push_printable(&mut self.text, &String::from_utf8_lossy(shown));
        Ok(())
    }

    fn finish(self) -> Reply {
        Reply { code: self.code, enhanced: self.enhanced, text: self.text.into() }
    }
}

/// One line, taken apart.
struct Line<'a> {
    code: u16,
    is_last: bool,
    text: &'a [u8],
}

impl Line<'_> {
    /// Takes a line without its LF.
    fn parse(line: &[u8]) -> Result<Line<'_>, Malformed> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_first_chunk::<3>().ok_or(Malformed::Code)?;
        if !(b'2'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::Code);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        match rest.split_first() {
            None => Ok(Line { code, is_last: true, text: &[] }),
            Some((b' ', text)) => Ok(Line { code, is_last: true, text }),
            Some((b'-', text)) => Ok(Line { code, is_last: false, text }),
            Some(_) => Err(Malformed::Code),
        }
    }
}

/// Appends `shown` without blanks at its end, and a space for each control character.
fn push_printable(text: &mut String, shown: &str) {
    let shown = shown.trim_end();
    // Most often there is nothing to replace, and the text is copied at once.
    if shown.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        text.push_str(shown);
    } else {
        text.extend(shown.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
}

/// The enhanced code at the start of `text` and what follows. RFC 3463 section 2: its class is the first
/// digit of the code; one that contradicts it is left in the text.
fn split_enhanced(text: &[u8], code: u16) -> (Option<Enhanced>, &[u8]) {
    let parsed = || {
        let (class, rest) = number(text)?;
        let (subject, rest) = number(rest.strip_prefix(b".")?)?;
        let (detail, rest) = number(rest.strip_prefix(b".")?)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
        (class == code / 100 && class != 3).then_some((Enhanced(class as u8, subject, detail), rest))
    };
    parsed().map_or((None, text), |(enhanced, rest)| (Some(enhanced), rest))
}

/// A number of one to three digits at the start of `text`, and what follows.
fn number(text: &[u8]) -> Option<(u16, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let value = |value, digit: &u8| value * 10 + u16::from(*digit - b'0');
    matches!(digits.len(), 1..=3).then(|| (digits.iter().fold(0, value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    /// All replies in `bytes`, or the error that ends them.
    fn read(bytes: &[u8]) -> (Vec<Reply>, Result<(), Malformed>) {
        let mut replies = Replies::default();
        replies.feed(bytes);
        drain(&mut replies)
    }

    fn drain(replies: &mut Replies) -> (Vec<Reply>, Result<(), Malformed>) {
        let mut all = Vec::new();
        loop {
            match replies.pop() {
                Ok(Some(reply)) => all.push(reply),
                Ok(None) => return (all, Ok(())),
                Err(malformed) => return (all, Err(malformed)),
            }
        }
    }

    fn one(bytes: &[u8]) -> Reply {
        let (mut all, end) = read(bytes);
        assert_eq!((all.len(), end), (1, Ok(())), "{}", String::from_utf8_lossy(bytes));
        all.remove(0)
    }

    #[test]
    fn replies_are_taken_apart() {
        for (wire, reply) in [
            (&b"250 2.1.5 ok\r\n"[..], Reply::new(250, (2, 1, 5), "ok")),
            (b"250 ok\n", Reply::bare(250, "ok")),
            (b"250\r\n", Reply::bare(250, "")),
            (b"250 \r\n", Reply::bare(250, "")),
            (b"250 2.0.0\r\n", Reply::new(250, (2, 0, 0), "")),
            (b"250-a\r\n250-b c\n250 d\r\n", Reply::bare(250, "a\nb c\nd")),
            (b"250-a\r\n250\r\n", Reply::bare(250, "a\n")),
            (b"550-5.7.26 no\r\n550 5.7.26 go away\r\n", Reply::new(550, (5, 7, 26), "no\ngo away")),
            (b"550-5.7.1 no\r\n550 5.7.2 x\r\n", Reply::new(550, (5, 7, 1), "no\n5.7.2 x")),
            (b"550-5.7.1 no\r\n550 plain\r\n", Reply::new(550, (5, 7, 1), "no\nplain")),
            (b"550-plain\r\n550 5.7.1 no\r\n", Reply::bare(550, "plain\n5.7.1 no")),
            (b"250 5.1.1 lies\r\n", Reply::bare(250, "5.1.1 lies")),
            (b"354 3.0.0 go\r\n", Reply::bare(354, "3.0.0 go")),
            (b"450 4.1.1.1 x\r\n", Reply::bare(450, "4.1.1.1 x")),
            (b"450 4.1. x\r\n", Reply::bare(450, "4.1. x")),
            (b"450 4.1000.1 x\r\n", Reply::bare(450, "4.1000.1 x")),
            (b"450 4.+1.1 x\r\n", Reply::bare(450, "4.+1.1 x")),
            (b"450 10.0.0.1 blocked\r\n", Reply::bare(450, "10.0.0.1 blocked")),
            (b"550 a\rb\0c\td\x1b[\r\r\n", Reply::bare(550, "a b c d [")),
            (b"550 \xff\xc3\xa9\r\n", Reply::bare(550, "\u{fffd}é")),
        ] {
            assert_eq!(one(wire), reply);
        }
    }

    #[test]
    fn what_is_no_reply_is_told_apart() {
        for wire in [
            "hello\r\n",
            "\r\n",
            "25\r\n",
            "2x0 a\r\n",
            "150 a\r\n",
            "600 a\r\n",
            "250_a\r\n",
            " 250 a\r\n",
            "2500\r\n",
        ] {
            assert_eq!(read(wire.as_bytes()), (vec![], Err(Malformed::Code)), "{wire}");
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n").1, Err(Malformed::CodesDiffer));
        assert_eq!(read(b"250-a\r\nb\r\n").1, Err(Malformed::Code));
        let ok = read(b"250 a\r\nnonsense\r\n");
        assert_eq!((ok.0.len(), ok.1), (1, Err(Malformed::Code)));
    }

    #[test]
    fn bounds_hold_exactly() {
        let line = |len: usize| format!("250 {}\r\n", "x".repeat(len - 6)).into_bytes();
        assert_eq!(read(&line(LINE_BYTES_MAX)).1, Ok(()));
        assert_eq!(read(&line(LINE_BYTES_MAX + 1)).1, Err(Malformed::LineTooLong));
        assert_eq!(read(&vec![b'2'; LINE_BYTES_MAX - 1]).1, Ok(()));
        assert_eq!(read(&vec![b'2'; LINE_BYTES_MAX]).1, Err(Malformed::LineTooLong));
        let lines = |n: usize| [b"250-x\r\n".repeat(n - 1), b"250 x\r\n".to_vec()].concat();
        assert_eq!(read(&lines(REPLY_LINES_MAX)).0.len(), 1);
        assert_eq!(read(&lines(REPLY_LINES_MAX + 1)).1, Err(Malformed::TooManyLines));
        let long = |n: usize| {
            [format!("250-{}\r\n", "x".repeat(1018)).repeat(n).into_bytes(), b"250 x\r\n".to_vec()].concat()
        };
        assert_eq!(read(&long(63)).0.len(), 1);
        assert_eq!(read(&long(64)).1, Err(Malformed::TooLong));
    }

    #[test]
    fn every_cut_gives_the_same_replies() {
        let wire = b"220 mx\r\n250-mx.example\r\n250-SIZE 10\n250 2.0.0 x\r\n\
                     550-5.1.1 a\xc3\xa9\r\n550 5.1.1 b\r\n421\r\n";
        let whole = read(wire);
        assert_eq!((whole.0.len(), whole.1), (4, Ok(())));
        for first in 0..=wire.len() {
            for second in first..=wire.len() {
                let mut replies = Replies::default();
                let mut all = Vec::new();
                for part in [&wire[..first], &wire[first..second], &wire[second..]] {
                    replies.feed(part);
                    let (some, end) = drain(&mut replies);
                    assert_eq!(end, Ok(()));
                    all.extend(some);
                }
                assert_eq!(all, whole.0);
                assert!(replies.is_empty());
            }
        }
    }

    #[test]
    fn half_a_reply_is_not_nothing() {
        for part in ["2", "250 a", "250-a\r\n", "250-a\r\n250"] {
            let mut replies = Replies::default();
            assert!(replies.is_empty());
            replies.feed(part.as_bytes());
            assert!(!replies.is_empty());
            assert_eq!(replies.pop(), Ok(None));
            assert!(!replies.is_empty(), "{part}");
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        for reply in [
            Reply::new(250, (2, 1, 5), "ok"),
            Reply::bare(354, "go on"),
            Reply::new(550, (5, 7, 255), "a\n\nb"),
            Reply::bare(220, "mx.example ESMTP"),
        ] {
            let mut wire = Vec::new();
            reply.encode(&mut wire);
            assert_eq!(one(&wire), reply);
        }
    }

    #[test]
    fn any_bytes_are_judged_within_bounds() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let likely = b"250- 5.1.1\r\n\n\n4\xff\0a";
        for round in 0..20_000 {
            let mut replies = Replies::default();
            for _ in 0..8 {
                let chunk: Vec<u8> = (0..random() % 64)
                    .map(|_| {
                        if round % 2 == 0 { random() as u8 } else { likely[random() as usize % likely.len()] }
                    })
                    .collect();
                replies.feed(&chunk);
                let (all, end) = drain(&mut replies);
                for reply in all {
                    assert!((200..600).contains(&reply.code) && !reply.text.contains('\r'));
                    assert!(!reply.to_string().contains('\n'));
                }
                if end.is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn an_endless_peer_gets_no_memory() {
        for pattern in
            [&b"250-\xff\xff\xff\xff\xff\xff\r\n"[..], b"250 x\r\n", b"2", b"\xff", b"250-5.0.0\r\n"]
        {
            let mut replies = Replies::default();
            for _ in 0..20_000 {
                replies.feed(pattern);
                let ended = drain(&mut replies).1.is_err();
                assert!(replies.input.len() <= LINE_BYTES_MAX + pattern.len());
                assert!(replies.input.capacity() <= 4 * LINE_BYTES_MAX);
                assert!(replies.begun.as_ref().is_none_or(|begun| begun.text.len() <= 3 * REPLY_BYTES_MAX));
                if ended {
                    break;
                }
            }
        }
        let mut replies = Replies::default();
        replies.feed(&b"250 x\r\n".repeat(10_000));
        assert_eq!(drain(&mut replies).0.len(), 10_000);
        assert_eq!(replies.input.capacity(), 0);
    }
}
