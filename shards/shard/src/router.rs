//! From shard to shard: bounded inboxes, outboxes for what does not fit, and who owns what.

use crate::message::ShardMessage;
use crate::metrics::Metrics;
use crossbeam_queue::ArrayQueue;
use host::{Bell, Host, Planted};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Messages that an inbox holds; beyond, they wait with their senders.
pub const INBOX_MESSAGES_MAX: usize = 4096;

/// What all shards of a relay see of each other.
#[derive(Debug)]
pub struct Links<B> {
    inboxes: Vec<Inbox<B>>,
    /// Shards that have read their logs and listen.
    pub ready: AtomicUsize,
    /// Shards that have finished what was under way after [`crate::message::Control::Drain`].
    pub quiet: AtomicUsize,
    /// Which shards take mail at present, by number.
    pub takes_mail: Box<[AtomicBool]>,
}

#[derive(Debug)]
struct Inbox<B> {
    messages: ArrayQueue<ShardMessage>,
    bell: B,
    /// Which shards found it full and want to hear when there is room.
    shut_out: Vec<AtomicBool>,
}

impl<B: Bell> Links<B> {
    /// Links for as many shards as there are bells.
    pub fn new(bells: Vec<B>) -> Arc<Links<B>> {
        Links::with_capacity(bells, INBOX_MESSAGES_MAX)
    }

    /// Links whose inboxes hold `capacity` messages.
    pub fn with_capacity(bells: Vec<B>, capacity: usize) -> Arc<Links<B>> {
        let shards = bells.len();
        let inbox = |bell| Inbox {
            messages: ArrayQueue::new(capacity),
            bell,
            shut_out: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        };
        Arc::new(Links {
            takes_mail: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            inboxes: bells.into_iter().map(inbox).collect(),
            ready: AtomicUsize::new(0),
            quiet: AtomicUsize::new(0),
        })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Puts a message into a shard's inbox, or gives it back when the inbox is full.
    pub fn try_send(&self, shard: usize, message: ShardMessage) -> Result<(), ShardMessage> {
        let inbox = &self.inboxes[shard];
        inbox.messages.push(message)?;
        inbox.bell.ring();
        Ok(())
    }
}

/// The one place that maps a destination to the shard that owns it. The same in every run and on every shard.
pub fn owner_of(destination: &str, shards: usize) -> usize {
    let mut hasher = queue::NameHasher::default();
    hasher.write(destination.as_bytes());
    (hasher.finish() % shards as u64) as usize
}

/// One shard's end of the links.
pub struct Router<H: Host> {
    host: H,
    links: Arc<Links<H::Bell>>,
    shard: usize,
    outboxes: RefCell<Vec<VecDeque<ShardMessage>>>,
}

impl<H: Host> Router<H> {
    /// The end of shard number `shard`.
    pub fn new(host: H, links: Arc<Links<H::Bell>>, shard: usize) -> Router<H> {
        let outboxes = (0..links.shards()).map(|_| VecDeque::new()).collect();
        Router { host, links, shard, outboxes: RefCell::new(outboxes) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.links.shards()
    }

    /// The links, for what concerns all shards.
    pub fn links(&self) -> &Links<H::Bell> {
        &self.links
    }

    /// Sends a message to another shard. What does not fit waits here in order, and leaves with [`Router::flush`].
    pub fn send(&self, to: usize, message: ShardMessage, metrics: &Metrics) {
        let outbox = &mut self.outboxes.borrow_mut()[to];
        if !outbox.is_empty() {
            outbox.push_back(message);
            return;
        }
        if let Err(message) = self.links.try_send(to, message) {
            metrics.count.inbox_full.bump();
            if self.host.planted(Planted::OrderDropped) && matches!(message, ShardMessage::Order(_)) {
                return;
            }
            outbox.push_back(message);
            self.push_waiting(to, outbox);
        }
    }

    /// Sends what waited for room.
    pub fn flush(&self) {
        for (to, outbox) in self.outboxes.borrow_mut().iter_mut().enumerate().filter(|(_, o)| !o.is_empty()) {
            self.push_waiting(to, outbox);
        }
    }

    /// Moves messages until the inbox is full; then asks to be told of room, and looks once more, so that room
    /// made in between is not missed.
    fn push_waiting(&self, to: usize, outbox: &mut VecDeque<ShardMessage>) {
        for asked in [false, true] {
            while let Some(message) = outbox.pop_front() {
                if let Err(message) = self.links.try_send(to, message) {
                    outbox.push_front(message);
                    break;
                }
            }
            if outbox.is_empty() || asked {
                return;
            }
            self.links.inboxes[to].shut_out[self.shard].store(true, Ordering::SeqCst);
        }
    }

    /// The next message for this shard.
    pub fn take(&self) -> Option<ShardMessage> {
        self.links.inboxes[self.shard].messages.pop()
    }

    /// Tells the shards that found this inbox full that there is room.
    pub fn announce_room(&self) {
        let inbox = &self.links.inboxes[self.shard];
        for (shard, shut_out) in inbox.shut_out.iter().enumerate() {
            if shut_out.load(Ordering::SeqCst) && shut_out.swap(false, Ordering::SeqCst) {
                self.links.inboxes[shard].bell.ring();
            }
        }
    }

    /// Messages that wait for room.
    pub fn waiting(&self) -> usize {
        self.outboxes.borrow().iter().map(VecDeque::len).sum()
    }
}
