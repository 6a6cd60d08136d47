//! The rig: a load generator and a sink that drive any SMTP relay from outside, and an account of every
//! message.
//!
//! It shares no code with the relay, so that it cannot share its mistakes. [`load`] sends numbered messages
//! and remembers which were acknowledged, [`sink`] verifies what arrives, [`account`] compares the two,
//! [`observe`] reads what the relay's processes cost, [`report`] puts it all together, and [`run`] does
//! everything in one go. [`series`] plays each [`scenario`] with every relay that an [`adapter`] starts;
//! [`suite`] is what it found, [`paper`] shows it as a page, and [`difference`] compares two of them.

pub mod account;
pub mod adapter;
pub mod bits;
pub mod book;
pub mod card;
pub mod clock;
mod content;
pub mod difference;
pub mod drip;
mod engine;
mod figures;
pub mod identity;
pub mod idle;
mod latency;
pub mod load;
pub mod medians;
mod number;
pub mod observe;
pub mod paper;
pub mod quantity;
pub mod queued;
pub mod report;
pub mod rounds;
pub mod run;
pub mod scenario;
pub mod search;
pub mod series;
pub mod sink;
pub mod suite;
pub mod sys;
mod transparency;
pub mod undo;
mod varied;

pub use content::{Content, Transfer};
pub use engine::Tls;
pub use latency::{Latencies, Summary};
