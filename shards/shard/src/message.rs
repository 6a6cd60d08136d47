//! All that shards ever send each other.
//!
//! | variant | sender | receiver | when the receiver's inbox is full |
//! |---|---|---|---|
//! | `Order` | who accepted the message | who owns the destination | waits in the sender's outbox; the queue's window bounds it |
//! | `Done` | who worked on the order | who accepted the message | waits; bounded by the orders it answers |
//! | `AskLease` | who is backed up | who owns the destination | waits; one per destination and 200 ms |
//! | `Lease` | who owns the destination | who asked | waits; one per question |
//! | `ReturnLease` | who held the lease | who owns the destination | waits; one per lease |
//! | `Control` | the program | every shard | the program tries again |

use crate::content::Content;
use crate::metrics::Snapshot;
use crate::plan::Plan;
use crossbeam_queue::ArrayQueue;
use mail::{Address, Envelope, Indices, MessageId, Outcome, Time, WallTime};
use queue::{DeliveryKey, Lent};
use spool::Place;
use std::sync::Arc;
use std::time::Duration;

/// One message between shards.
#[derive(Debug)]
pub enum ShardMessage {
    /// Deliver this.
    Order(Box<Order>),
    /// This is what came of it.
    Done(Box<Done>),
    /// May `shard` open connections to this destination itself?
    AskLease {
        /// The destination's name.
        destination: Arc<str>,
        /// Who asks.
        shard: usize,
    },
    /// It may.
    Lease(Box<Lease>),
    /// `shard` has no connection to the destination any more.
    ReturnLease {
        /// The destination's name.
        destination: Arc<str>,
        /// Who gives it back.
        shard: usize,
        /// Of the lease.
        epoch: u32,
    },
    /// From the program.
    Control(Control),
}

/// What the program asks of a shard.
#[derive(Debug)]
pub enum Control {
    /// Put a snapshot into this place; dropped when it is full.
    Snapshot(Arc<ArrayQueue<Snapshot>>),
    /// From now on these are the users.
    Users(Arc<auth::Users>),
    /// Accept nothing more, finish what is under way within this time, then count as quiet.
    Drain(Duration),
    /// All shards are quiet: make everything durable and end.
    Finish,
}

/// Leave to open connections to a destination that another shard owns.
#[derive(Debug)]
pub struct Lease {
    /// The destination's name.
    pub destination: Arc<str>,
    /// How many connections, and which grant this is.
    pub lent: Lent,
    /// What the owner knows of the way there.
    pub plan: Option<Arc<Plan>>,
}

/// One message to be delivered to some recipients at one destination.
#[derive(Debug)]
pub struct Order {
    /// The shard that accepted the message and gets the outcome.
    pub origin: usize,
    /// The delivery in that shard's queue.
    pub key: DeliveryKey,
    /// The message.
    pub id: MessageId,
    /// Where it is in the spool.
    pub place: Place,
    /// Its content, while memory allows.
    pub content: Option<Content>,
    /// The destination's name.
    pub destination: Arc<str>,
    /// The message's envelope.
    pub envelope: Arc<Envelope>,
    /// Those of its recipients that it is for.
    pub recipients: Indices,
    /// When it was accepted.
    pub accepted: WallTime,
    /// When it is too old.
    pub expires: Time,
    /// Failed attempts so far.
    pub attempts: u16,
}

impl Order {
    /// Index and address of each recipient.
    pub fn addresses(&self) -> impl Iterator<Item = (u16, &Address)> {
        self.recipients.iter().map(|index| (*index, &self.envelope.recipients[usize::from(*index)]))
    }
}

/// A next hop that had its say.
#[derive(Clone, Debug)]
pub struct Answerer {
    /// Its name or address.
    pub name: Arc<str>,
    /// It makes the reports that were asked for (RFC 3461).
    pub dsn: bool,
}

/// An order with what came of it.
#[derive(Debug)]
pub struct Done {
    /// The order.
    pub order: Box<Order>,
    /// One outcome per recipient of the order, in its order. Recipients beyond were not tried, since the next hop
    /// takes no more at once.
    pub outcomes: Vec<Outcome>,
    /// The next hop that answered, where one did.
    pub next_hop: Option<Answerer>,
    /// When the attempt began: a connection took the order, or it was given up without one.
    pub begun: Time,
    /// The destination rests until then.
    pub rest: Option<Time>,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<ShardMessage>();
    assert!(size_of::<ShardMessage>() <= 64);
};
