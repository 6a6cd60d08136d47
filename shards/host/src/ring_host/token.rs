//! What a completion or a timer belongs to, packed into the 64 bits that the kernel hands back.

use super::slots::{GENERATION_BITS, Key};

/// The operation that a completion ends or continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A cancellation or a close, whose result changes nothing.
    Ignored,
    /// The multishot receive of a stream.
    Receive,
    /// The send of a stream.
    Send,
    /// The multishot accept of a listener.
    Accept,
    /// A one-shot operation, or the first part of a linked pair.
    Operation,
    /// The second part of a linked pair.
    Linked,
    /// The multishot poll of the bell.
    Bell,
}

/// A kind and the slot that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) key: Key,
}

const KIND_SHIFT: u32 = 32 + GENERATION_BITS;

impl Token {
    pub(super) fn new(kind: Kind, key: Key) -> Token {
        Token { kind, key }
    }

    /// A token that needs no slot.
    pub(super) fn alone(kind: Kind) -> Token {
        Token { kind, key: Key { index: 0, generation: 0 } }
    }

    pub(super) fn pack(self) -> u64 {
        (self.kind as u64) << KIND_SHIFT | u64::from(self.key.generation) << 32 | u64::from(self.key.index)
    }

    pub(super) fn unpack(user_data: u64) -> Token {
        let kind = match user_data >> KIND_SHIFT {
            1 => Kind::Receive,
            2 => Kind::Send,
            3 => Kind::Accept,
            4 => Kind::Operation,
            5 => Kind::Linked,
            6 => Kind::Bell,
            _ => Kind::Ignored,
        };
        let generation = (user_data >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        Token { kind, key: Key { index: user_data as u32, generation } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let kinds = [Kind::Ignored, Kind::Receive, Kind::Send, Kind::Accept, Kind::Operation, Kind::Linked];
        for kind in kinds.into_iter().chain([Kind::Bell]) {
            for (index, generation) in [(0, 0), (u32::MAX, (1 << GENERATION_BITS) - 1), (7, 9)] {
                let token = Token::new(kind, Key { index, generation });
                assert_eq!(Token::unpack(token.pack()), token);
            }
        }
    }
}
