//! From the queue to the shard that delivers: due deliveries become orders.

use crate::content::Content;
use crate::deliver;
use crate::message::{Order, ShardMessage};
use crate::metrics::Stage;
use crate::shard::Shard;
use crate::signal::contain;
use crate::store::FreshMessage;
use host::Host;
use mail::{Envelope, WallTime};
use queue::Due;
use spool::{Place, ReadError, Stored};
use std::rc::Rc;
use std::sync::Arc;

/// Records that are read back from the spool at once.
pub(crate) const READS_MAX: usize = 16;
/// Contents up to this many bytes travel with an order that was read back; larger ones are read again when they
/// are sent, so that orders which wait for a slow destination hold little memory.
const CARRIED_BYTES_MAX: usize = 64 << 10;

impl<H: Host> Shard<H> {
    /// Turns what is ready into orders, as far as the windows of the destinations allow.
    pub(crate) fn dispatch(&self) {
        if self.draining.is_raised() {
            return;
        }
        loop {
            let Some(due) = self.queue.borrow_mut().take() else { break };
            let fresh = self.fresh.borrow_mut().take(due.id);
            match fresh {
                Some(fresh) => self.send_fresh(due, fresh),
                None => self.unread.borrow_mut().push_back(due),
            }
        }
        self.read_more();
    }

    /// Whether an order may take so many bytes of content along; otherwise they are read when they are sent.
    fn may_carry(&self, bytes: usize) -> bool {
        self.carried.get() + bytes <= self.config.reception.body_memory
    }

    fn send_fresh(&self, due: Due<Place>, fresh: FreshMessage) {
        self.metrics.record(Stage::Ready, self.host.wall().since(fresh.accepted));
        let content = Some(fresh.content).filter(|content| self.may_carry(content.len()));
        let order = self.order(due, fresh.envelope, content, fresh.accepted);
        self.send_order(order);
    }

    pub(crate) fn order(
        &self,
        due: Due<Place>,
        envelope: Arc<Envelope>,
        content: Option<Content>,
        accepted: WallTime,
    ) -> Box<Order> {
        self.carried.set(self.carried.get() + content.as_ref().map_or(0, Content::len));
        let mut recipients = due.recipients;
        recipients.retain(|index| usize::from(*index) < envelope.recipients.len());
        Box::new(Order {
            origin: self.number,
            key: due.key,
            id: due.id,
            place: due.place,
            content,
            envelope,
            recipients,
            destination: due.destination,
            accepted,
            expires: due.expires,
            attempts: due.attempts,
        })
    }

    fn send_order(&self, order: Box<Order>) {
        let owner = self.owner(&order.destination);
        if owner == self.number || deliver::holds_lease(self, &order.destination) {
            deliver::take_order(&self.me(), order);
            return;
        }
        deliver::ask_lease_if_backed_up(self, &order.destination, owner);
        self.metrics.count.orders_sent.bump();
        self.router.send(owner, ShardMessage::Order(order), &self.metrics);
    }

    /// Starts reads of due messages that are not in memory, a bounded number at once.
    fn read_more(&self) {
        while self.reading.get() < READS_MAX {
            let Some(due) = self.unread.borrow_mut().pop_front() else { return };
            self.reading.set(self.reading.get() + 1);
            self.host.spawn(read(self.me(), due));
        }
    }
}

/// Reads a message. A panic counts as damage: it must not leave the delivery waiting for ever.
pub(crate) async fn read_contained<H: Host>(shard: &Shard<H>, place: Place) -> Result<Stored, ReadError> {
    contain(shard.reader.read(place)).await.unwrap_or(Err(ReadError::Damaged(place)))
}

async fn read<H: Host>(shard: Rc<Shard<H>>, due: Due<Place>) {
    let stored = read_contained(&shard, due.place).await;
    shard.reading.set(shard.reading.get() - 1);
    match stored {
        Ok(stored) => {
            shard.metrics.count.contents_read.bump();
            shard.forget_unreadable(due.id, due.place);
            let small = stored.content.len() <= CARRIED_BYTES_MAX && shard.may_carry(stored.content.len());
            let content = small.then(|| Content::new(stored.content));
            let order = shard.order(due, Arc::new(stored.envelope), content, stored.accepted);
            shard.send_order(order);
        }
        Err(error) => shard.unreadable(&due, &error),
    }
    shard.dispatch();
}
