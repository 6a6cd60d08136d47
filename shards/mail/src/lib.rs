//! What every layer speaks of: addresses, envelopes, replies, outcomes, trace headers, reports, time.
//!
//! Pure: no input or output, no clock, no randomness; such things come in as arguments.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod address;
pub mod bounce;
pub mod envelope;
pub mod hygiene;
pub mod id;
pub mod outcome;
pub mod parameters;
pub mod reply;
pub mod time;
pub mod trace;
pub mod utf8;
pub mod xtext;

pub use address::{Address, AddressError};
pub use envelope::{BodyType, Envelope, Indices};
pub use id::{IdSource, MessageId};
pub use outcome::Outcome;
pub use parameters::{By, ByMode, Notify, Parameters, RecipientParameters, Return};
pub use reply::{Class, Enhanced, Reply};
pub use time::{Time, WallTime};
