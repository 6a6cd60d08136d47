//! BDAT (RFC 3030): a content in pieces of known length.

use super::super::driver::Desk;
use super::{DISORDER, DROPPED, ENDLESS_CONTENT, OK, Reply, Session, State, say};

const NO_SIZE: Reply = say("501 5.5.4 BDAT needs a size\r\n");

/// A piece of a message that BDAT announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Bytes that have not come yet.
    pub(super) left: usize,
    /// The message ends with it.
    last: bool,
}

impl Session {
    /// The command, which is answered behind its chunk if all is well.
    pub(super) fn begin_chunk(&mut self, line: &[u8], desk: &Desk) -> Option<Reply> {
        let Some(chunk) = Chunk::announced(line) else { return Some(NO_SIZE) };
        let (recipients, message) = match self.state.take() {
            State::Envelope(recipients) => {
                (self.paid, self.uncut) = (0, false);
                (recipients, Vec::new())
            }
            State::Chunks(recipients, message, _) => (recipients, message),
            // The client may have sent it ahead of the reply that makes it pointless: it is read and refused.
            _ => (Vec::new(), Vec::new()),
        };
        if chunk.left.saturating_add(message.len()) > desk.message_bytes_max() {
            return Some(ENDLESS_CONTENT);
        }
        self.state = State::Chunks(recipients, message, Some(chunk));
        None
    }

    /// Takes what has come of a chunk, and answers it if that is all of it.
    pub(super) fn chunk(&mut self, input: &[u8], desk: &mut Desk) -> Option<(usize, Option<Reply>)> {
        let State::Chunks(recipients, mut message, Some(chunk)) = self.state.take() else { return None };
        let taken = chunk.left.min(input.len());
        message.extend_from_slice(&input[..taken]);
        let Chunk { left, last } = Chunk { left: chunk.left - taken, ..chunk };
        let whole = left == 0 && last;
        if !recipients.is_empty() && self.cuts(&message, whole, &recipients, desk) {
            return Some((taken, Some(DROPPED)));
        }
        if left > 0 {
            self.state = State::Chunks(recipients, message, Some(Chunk { left, last }));
            return (taken > 0).then_some((taken, None));
        }
        let reply = if recipients.is_empty() {
            DISORDER
        } else if last {
            self.receive(&message, false, &recipients, desk)
        } else {
            self.state = State::Chunks(recipients, message, None);
            OK
        };
        Some((taken, Some(reply)))
    }
}

impl Chunk {
    /// The size of a chunk, and whether it is the last.
    fn announced(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).skip(1);
        let left = str::from_utf8(words.next()?).ok()?.parse().ok()?;
        match (words.next(), words.next()) {
            (None, _) => Some(Self { left, last: false }),
            (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => Some(Self { left, last: true }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        assert_eq!(Chunk::announced(b"BDAT 100"), Some(Chunk { left: 100, last: false }));
        assert_eq!(Chunk::announced(b"bdat  0  last"), Some(Chunk { left: 0, last: true }));
        for wrong in ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 LAST x", "BDAT 1 FIRST", "BDAT LAST"] {
            assert_eq!(Chunk::announced(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
