//! The envelope of a message (RFC 5321 section 2.3.1).

use crate::Address;
use alloc::vec::Vec;

/// What the client declared of the content (RFC 6152 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// No declaration, or `BODY=7BIT`.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBit,
}

/// Who sent it, who shall have it, and what the content needs of the next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path; `None` is the null reverse-path `<>`.
    pub sender: Option<Address>,
    /// The forward-paths in the order in which they were given; at least one once stored.
    pub recipients: Vec<Address>,
    /// The declared body type.
    pub body: BodyType,
    /// The client said SMTPUTF8 (RFC 6531): addresses or headers may hold UTF-8.
    pub utf8: bool,
}
