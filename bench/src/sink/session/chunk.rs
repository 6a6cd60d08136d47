//! BDAT (RFC 3030): a content in pieces of known length.

use super::super::driver::Desk;
use super::{DISORDER, ENDLESS_CONTENT, OK, Reply, Session, State, say};

const NO_SIZE: Reply = say("501 5.5.4 BDAT needs a size\r\n");

impl Session {
    /// Takes the chunk that follows the command, if it is complete, and answers it; says how long it was.
    pub(super) fn chunk(&mut self, line: &[u8], input: &[u8], desk: &mut Desk) -> Option<(usize, Reply)> {
        let Some((size, last)) = parameters(line) else { return Some((0, NO_SIZE)) };
        let before = if let State::Chunks(_, message) = &self.state { message.len() } else { 0 };
        if size.saturating_add(before) > desk.message_bytes_max() {
            return Some((input.len(), ENDLESS_CONTENT));
        }
        let chunk = input.get(..size)?;
        let (recipients, mut message) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Envelope(recipients) if !recipients.is_empty() => (recipients, Vec::new()),
            State::Chunks(recipients, message) => (recipients, message),
            // The client may have sent it ahead of the reply that makes it pointless.
            _ => return Some((size, DISORDER)),
        };
        let reply = match (last, message.is_empty()) {
            (true, true) => self.receive(chunk, false, &recipients, desk),
            (true, false) => {
                message.extend_from_slice(chunk);
                self.receive(&message, false, &recipients, desk)
            }
            (false, _) => {
                message.extend_from_slice(chunk);
                self.state = State::Chunks(recipients, message);
                OK
            }
        };
        Some((size, reply))
    }
}

/// The size of a chunk, and whether it is the last.
fn parameters(line: &[u8]) -> Option<(usize, bool)> {
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).skip(1);
    let size = str::from_utf8(words.next()?).ok()?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => Some((size, false)),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => Some((size, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        assert_eq!(parameters(b"BDAT 100"), Some((100, false)));
        assert_eq!(parameters(b"bdat  0  last"), Some((0, true)));
        for wrong in ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 LAST x", "BDAT 1 FIRST", "BDAT LAST"] {
            assert_eq!(parameters(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
