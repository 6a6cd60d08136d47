//! One core of the relay: sessions in, the spool, the queue, sessions out, and the links to the other cores.
//!
//! [`run`] is one shard; everything in it is local to its thread. See `shards/README.md` for the life of a message.
#![forbid(unsafe_code)]

pub mod config;
mod content;
mod deliver;
mod dispatch;
mod health;
mod login;
pub mod message;
pub mod metrics;
mod notified;
pub mod plan;
mod receive;
mod recover;
mod report;
mod router;
mod settle;
mod shard;
mod signal;
mod site;
mod store;
mod transmit;
mod ways;

pub use router::{INBOX_MESSAGES_MAX, Links, owner_of};
pub use shard::run;
