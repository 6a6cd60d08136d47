//! What is due when, and to which destination.
//!
//! Two halves of one job, both pure. The shard that accepted a message keeps it in its [`Queue`]: which deliveries
//! wait until when, which are ready, how many are out. The shard that owns a destination keeps a [`Destination`]:
//! the orders at hand and how many connections may be open.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod destination;
mod line;
mod outlook;
mod queue;
mod retry;
mod slots;
mod survey;
mod timers;

pub use destination::{Allowance, Destination, Lent, Phase};
pub use outlook::NameHasher;
pub use queue::{DeliveryKey, Due, NewDelivery, Queue, Settled, TICK_MAX, WINDOW_MIN};
pub use retry::{REST_MAX, Retry};
pub use survey::{Listed, Mark, Stage, Stays};
