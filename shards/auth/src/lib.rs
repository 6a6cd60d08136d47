//! Who is a client? SASL mechanisms as a server runs them (RFC 4422), users with their credentials, and what slows
//! down those who guess.
//!
//! Nothing here does input or output: an [`Exchange`] is a value that is fed the client's responses and says what to
//! send, or asks a [`Question`] of whoever drives it. Time, randomness and the users come from outside. What takes
//! long ([`Users::check`]) is a function that can run on any thread.
//!
//! * `mechanism` which ways there are, and when each is offered · `exchange` one attempt, whatever the mechanism ·
//!   `plain` and `scram` what they say
//! * `user` what is known of a user · `users` all of them, and whether a password is right · `password` and
//!   `verifier` what a file keeps instead of passwords
//! * `guard` failures counted, delays, lock-out · `verified` passwords that were right a moment ago
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod digest;
mod exchange;
mod guard;
mod mechanism;
mod password;
mod plain;
mod prepare;
mod scram;
mod user;
mod users;
mod verified;
mod verifier;

pub use exchange::{Answer, End, Exchange, Next, Question};
pub use guard::{Bounds, Failed, Guard, Standing};
pub use mechanism::{Channel, Mechanism, Terms};
pub use password::{Cost, PasswordHash};
pub use prepare::{NAME_BYTES_MAX, PASSWORD_BYTES_MAX, Secret, Unusable, name, password};
pub use user::{Rate, Sender, User};
pub use users::{Key, Users};
pub use verified::Verified;
pub use verifier::{Credentials, ITERATIONS, ScramVerifier};
