//! The envelope of a message (RFC 5321 section 2.3.1).

use crate::{Address, Parameters, RecipientParameters};
use alloc::boxed::Box;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// Some of an envelope's recipients, by their index.
pub type Indices = SmallVec<[u16; 4]>;

/// What the content needs of the way that it takes (RFC 6152 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// Nothing: it is ASCII.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`: it has bytes above 127.
    EightBit,
    /// `BODY=BINARYMIME` (RFC 3030 section 3): it is no sequence of lines that DATA could carry.
    Binary,
}

/// Who sent it, who shall have it, and what the content needs of the next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path; `None` is the null reverse-path `<>`.
    pub sender: Option<Address>,
    /// The forward-paths in the order in which they were given; at least one once stored.
    pub recipients: Vec<Address>,
    /// The body type, by the content itself.
    pub body: BodyType,
    /// The client said SMTPUTF8 (RFC 6531), and the content needs it; addresses that need it say so themselves.
    pub utf8: bool,
    /// What was asked beside; most messages have nothing of it.
    pub parameters: Option<Box<Parameters>>,
}

impl Envelope {
    /// What was asked of the recipient with this index.
    pub fn asked(&self, index: u16) -> Option<&RecipientParameters> {
        self.parameters.as_ref()?.recipient(index)
    }
}
