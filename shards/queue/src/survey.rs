//! The queue looked through from outside, by slices: for operators, and for the log when it moves messages.

use crate::line::State;
use crate::queue::{DeliveryKey, Queue};
use mail::{MessageId, Time};

/// How far a look through the queue has come; the default is its start. What is added meanwhile may be missed, and a
/// delivery that stays is seen exactly once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u32);

/// What a delivery is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits until then.
    Waiting(Time),
    /// It leaves as soon as its destination has room.
    Ready,
    /// It is on its way.
    Out,
}

/// A delivery as it stands in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'q, P> {
    /// Names the delivery until it is done.
    pub key: DeliveryKey,
    /// The message.
    pub id: MessageId,
    /// Where it is.
    pub place: P,
    /// Where to.
    pub destination: &'q str,
    /// Failed attempts so far.
    pub attempts: u16,
    /// When the message is too old.
    pub expires: Time,
    /// What it is doing.
    pub stage: Stage,
}

/// Why [`Queue::relocate`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// The message is not at that place any more: it is done, or was moved before.
    Gone,
    /// An order that names the place is out. Its message may move once it is settled.
    Out,
}

impl<P: Copy> Queue<P> {
    /// Looks at up to `budget` slots from `mark` on, shows what is in them, and returns where to go on; `None`: that
    /// was all.
    pub fn look_through(
        &self,
        mark: Mark,
        budget: usize,
        mut show: impl FnMut(Listed<'_, P>),
    ) -> Option<Mark> {
        let Mark(mut at) = mark;
        for _ in 0..budget {
            at = self.deliveries.next_held(at)?;
            if let Some(listed) = self.listed(at) {
                show(listed);
            }
            at += 1;
        }
        Some(Mark(at))
    }

    fn listed(&self, key: u32) -> Option<Listed<'_, P>> {
        let delivery = self.deliveries.get(key)?;
        let message = &self.messages[delivery.message];
        Some(Listed {
            key: DeliveryKey(key),
            id: message.id,
            place: message.place,
            destination: &self.destinations.slots[delivery.destination].name,
            attempts: delivery.attempts,
            expires: message.expires,
            stage: match delivery.state {
                State::Waiting { position } => Stage::Waiting(self.waiting.due(position)),
                State::Ready { .. } => Stage::Ready,
                State::Out => Stage::Out,
            },
        })
    }

    /// Says that the message of a delivery was copied from one place to another. The key comes from
    /// [`Queue::look_through`] and may be old: the change is made only if the message is still at `from`, which no other
    /// message can be, and no delivery of it is out, so that no order ever names a place that is no more.
    pub fn relocate(&mut self, key: DeliveryKey, from: P, to: P) -> Result<(), Stays>
    where
        P: PartialEq,
    {
        let DeliveryKey(key) = key;
        let delivery = self.deliveries.get(key).ok_or(Stays::Gone)?;
        let message = &mut self.messages[delivery.message];
        match message {
            message if message.place != from => Err(Stays::Gone),
            message if message.out > 0 => Err(Stays::Out),
            message => {
                message.place = to;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewDelivery;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use mail::Indices;

    fn filled(messages: u32) -> Queue<u32> {
        let mut queue = Queue::new(0);
        for place in 0..messages {
            let new = |name: &str| NewDelivery {
                destination: Arc::from(name),
                recipients: [0].into_iter().collect(),
                attempts: 0,
                due: Time(u64::from(place % 3)),
            };
            queue.add(MessageId(u64::from(place)), place, Time(1000), [new("a"), new("b")], Time(0));
        }
        queue
    }

    #[test]
    fn a_look_by_slices_sees_every_delivery_once() {
        let mut queue = filled(3000);
        queue.take().expect("some are ready");
        let mut seen = Vec::new();
        let mut mark = Some(Mark::default());
        let mut slices = 0;
        while let Some(from) = mark {
            mark = queue.look_through(from, 100, |listed| seen.push((listed.place, listed.stage)));
            slices += 1;
        }
        assert_eq!((seen.len(), slices), (6000, 61));
        let count = |stage| seen.iter().filter(|(_, seen)| *seen == stage).count();
        assert_eq!([Stage::Out, Stage::Ready, Stage::Waiting(Time(2))].map(count), [1, 1999, 2000]);
    }

    #[test]
    fn a_message_moves_unless_an_order_is_out() {
        let mut queue = filled(1);
        let mut keys = Vec::new();
        queue.look_through(Mark::default(), 10, |listed| keys.push(listed.key));
        assert_eq!(queue.relocate(keys[0], 7, 8), Err(Stays::Gone), "it is not there");
        assert_eq!(queue.relocate(keys[0], 0, 8), Ok(()));
        assert_eq!(queue.relocate(keys[1], 0, 8), Err(Stays::Gone), "the other delivery has moved with it");
        let due = queue.take().expect("ready");
        assert_eq!(due.place, 8);
        assert_eq!(keys.iter().filter(|key| queue.relocate(**key, 8, 9) == Err(Stays::Out)).count(), 2);
        queue.settle(due.key, Indices::new(), Time(0));
        assert_eq!(queue.relocate(due.key, 8, 9), Err(Stays::Gone), "this delivery is done");
        let other = queue.take().expect("ready");
        assert_eq!(queue.settle(other.key, due.recipients.clone(), Time(5)).retired, None);
        assert_eq!(queue.relocate(other.key, 8, 9), Ok(()));
        queue.tick(Time(5));
        let again = queue.take().expect("due");
        assert_eq!(queue.settle(again.key, Indices::new(), Time(0)).retired, Some(9));
    }
}
