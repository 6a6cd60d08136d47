//! What came of an attempt goes on record, the sender is told what it wants to know, and what was deferred waits again.

use crate::content::Content;
use crate::dispatch::{READS_MAX, read_contained};
use crate::message::{Done, Order};
use crate::metrics::Stage;
use crate::report::report_then_record;
use crate::shard::Shard;
use host::{Host, Planted};
use mail::bounce::{self, Told};
use mail::{Address, ByMode, Envelope, Indices, MessageId, Notify, Outcome, Reply, Time};
use queue::{DeliveryKey, Due};
use spool::{OutcomeRecord, Place, ReadError, RecipientState};
use std::rc::Rc;
use std::sync::Arc;

/// Deliveries whose age is looked at when one has been found too old.
const SWEEP_ON: usize = 64;

/// The outcomes of one attempt, sorted by what they mean for the message.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Final states to be recorded.
    pub(crate) finals: Vec<(u16, RecipientState)>,
    /// Failures that the sender must be told of.
    pub(crate) failures: Vec<Told>,
    /// Deliveries that nobody else tells the sender of, who wants to know.
    pub(crate) successes: Vec<Told>,
    /// Delays that the sender wants to know of, with the indices of the recipients.
    pub(crate) delays: Vec<(u16, Told)>,
    /// Recipients that wait again.
    pub(crate) deferred: Indices,
    /// Recipients for whom there was no room in the transaction.
    pub(crate) untried: Indices,
}

impl Verdict {
    fn has_reports(&self) -> bool {
        !(self.failures.is_empty() && self.successes.is_empty() && self.delays.is_empty())
    }
}

impl<H: Host> Shard<H> {
    /// Takes the outcome of an order of ours.
    pub(crate) fn settle(&self, done: Done) {
        self.carried.set(self.carried.get() - done.order.content.as_ref().map_or(0, Content::len));
        if let Some(until) = done.rest {
            self.queue.borrow_mut().rest(&done.order.destination, until);
            self.earlier.raise();
        }
        if self.host.planted(Planted::OutcomeLost)
            && done.outcomes.iter().all(|o| matches!(o, Outcome::Delivered(_)))
        {
            return;
        }
        let verdict = self.judge_outcomes(&done);
        self.log_attempt(&done);
        if !verdict.has_reports() {
            self.record(&done.order, verdict);
            self.dispatch();
        } else {
            self.host.spawn(report_then_record(self.me(), done.order, verdict));
        }
    }

    fn judge_outcomes(&self, done: &Done) -> Verdict {
        let mut verdict = Verdict::default();
        let tried = done.outcomes.len();
        for ((index, address), outcome) in done.order.addresses().zip(&done.outcomes) {
            if let Some(state) = self.judge_outcome(done, (index, address), outcome, &mut verdict) {
                verdict.finals.push((index, state));
            }
        }
        verdict.untried.extend_from_slice(&done.order.recipients[tried..]);
        verdict
    }

    /// The final state of a recipient; `None` when it waits again.
    fn judge_outcome(
        &self,
        done: &Done,
        (index, address): (u16, &Address),
        outcome: &Outcome,
        verdict: &mut Verdict,
    ) -> Option<RecipientState> {
        let order = &done.order;
        let count = &self.metrics.count;
        let wanted = self.wanted(&order.envelope, index);
        let told = |reply: Reply| Told {
            recipient: address.clone(),
            original: order
                .envelope
                .asked(index)
                .and_then(|asked| asked.original.as_deref().map(String::from)),
            reply,
            next_hop: done.next_hop.as_ref().map(|next_hop| next_hop.name.to_string()),
        };
        match outcome {
            Outcome::Delivered(reply) => {
                count.recipients_delivered.bump();
                self.metrics.record(Stage::Delivered, self.host.wall().since(order.accepted));
                let reports_itself = done.next_hop.as_ref().is_some_and(|next_hop| next_hop.dsn);
                let is_told = wanted.success && !reports_itself || self.is_traced(&order.envelope, index);
                if is_told && order.envelope.sender.is_some() {
                    verdict.successes.push(told(reply.clone()));
                }
                Some(RecipientState::Delivered)
            }
            Outcome::Deferred(reply) if !self.is_too_late(order) => {
                count.recipients_deferred.bump();
                verdict.deferred.push(index);
                if self.is_delay_to_be_told(order, index, wanted.delay) {
                    verdict.delays.push((index, told(reply.clone())));
                }
                None
            }
            Outcome::Deferred(reply) => {
                count.recipients_expired.bump();
                self.fail(verdict, wanted.failure, || told(expiry(reply)));
                Some(RecipientState::Expired)
            }
            Outcome::Failed(reply) => {
                count.recipients_failed.bump();
                self.fail(verdict, wanted.failure, || told(reply.clone()));
                Some(RecipientState::Failed)
            }
        }
    }

    fn fail(&self, verdict: &mut Verdict, is_wanted: bool, told: impl FnOnce() -> Told) {
        if is_wanted {
            verdict.failures.push(told());
        } else {
            self.metrics.count.bounces_suppressed.bump();
        }
    }

    /// Whether the time for trying again is over.
    fn is_too_late(&self, order: &Order) -> bool {
        order.expires <= self.host.now() || self.is_overdue(order, ByMode::Return)
    }

    /// Whether the time that the sender gave is over, and this is what shall happen then (RFC 2852).
    fn is_overdue(&self, order: &Order, mode: ByMode) -> bool {
        let by = order.envelope.parameters.as_ref().and_then(|asked| asked.by);
        by.is_some_and(|by| by.mode == mode && by.until <= self.host.wall())
    }

    fn is_delay_to_be_told(&self, order: &Order, index: u16, is_wanted: bool) -> bool {
        let is_late = self.host.wall().since(order.accepted) >= self.config.bounce.delay_after;
        let is_due = is_wanted && is_late
            || self.is_overdue(order, ByMode::Notify) && !is_never(&order.envelope, index);
        is_due && order.envelope.sender.is_some() && self.told.borrow().may_tell(order.id, index)
    }

    /// Whether each relay on the way shall report (RFC 2852 section 4).
    fn is_traced(&self, envelope: &Envelope, index: u16) -> bool {
        let by = envelope.parameters.as_ref().and_then(|asked| asked.by);
        by.is_some_and(|by| by.trace) && !is_never(envelope, index)
    }

    /// One record for the attempt, and one for the outcome of each recipient.
    fn log_attempt(&self, done: &Done) {
        let order = &done.order;
        let (now, age) = (self.host.now(), self.host.wall().since(order.accepted));
        let took = now.since(done.begun);
        tracing::info!(
            target: "mtad::attempt",
            id = %order.id,
            destination = &*order.destination,
            next_hop = done.next_hop.as_ref().map_or("-", |next_hop| &*next_hop.name),
            attempt = order.attempts + 1,
            recipients = order.recipients.len(),
            waited_us = age.saturating_sub(took).as_micros() as u64,
            transaction_us = took.as_micros() as u64,
            "attempt"
        );
        for ((_, address), outcome) in order.addresses().zip(&done.outcomes) {
            let (result, reply) = match outcome {
                Outcome::Delivered(reply) => ("delivered", reply),
                Outcome::Deferred(reply) if self.is_too_late(order) => ("expired", reply),
                Outcome::Deferred(reply) => ("deferred", reply),
                Outcome::Failed(reply) => ("failed", reply),
            };
            let age_us = age.as_micros() as u64;
            tracing::info!(target: "mtad::outcome", id = %order.id, to = %address, result, age_us, %reply, "outcome");
        }
    }

    /// Puts the verdict on record and lets the queue go on.
    pub(crate) fn record(&self, order: &Order, verdict: Verdict) {
        let Verdict { finals, mut deferred, untried, .. } = verdict;
        let attempts = order.attempts.saturating_add(1);
        let wait = self.config.retry.wait(attempts, self.host.random());
        let mut again = (self.host.now() + wait).min(order.expires);
        let next = self.host.wall() + wait;
        let mut recipients = finals;
        let told = self.told.borrow();
        recipients.extend(deferred.iter().map(|index| {
            let attempts = told.mark(order.id, *index, attempts);
            (*index, RecipientState::Waiting { attempts, next })
        }));
        drop(told);
        if deferred.is_empty() && !untried.is_empty() {
            again = self.host.now();
        }
        deferred.extend(untried);
        self.record_finals(order, recipients);
        self.settle_queue(order.key, order.id, order.place, deferred, again);
    }

    /// Puts states of recipients on record.
    pub(crate) fn record_finals(&self, order: &Order, recipients: Vec<(u16, RecipientState)>) {
        let mut told = self.told.borrow_mut();
        for (index, state) in &recipients {
            if !matches!(state, RecipientState::Waiting { .. }) {
                told.remove(order.id, *index);
            }
        }
        let record = OutcomeRecord { id: order.id, at: self.host.wall(), recipients };
        self.log_of(order.place).append_outcome(order.place, &record);
    }

    pub(crate) fn settle_queue(
        &self,
        key: DeliveryKey,
        id: MessageId,
        place: Place,
        deferred: Indices,
        again: Time,
    ) {
        let waits = !deferred.is_empty();
        let settled = self.queue.borrow_mut().settle(key, deferred, again);
        if let Some(place) = settled.retired {
            self.log_of(place).retire(id, place);
        }
        if waits {
            self.earlier.raise();
        }
        debug_assert!(!waits || settled.retired.is_none(), "what waits is not retired: {id} at {place:?}");
    }

    /// A due delivery whose record cannot be read back waits again. One that is damaged is given up when it is too old,
    /// and one whose disk does not answer when it is twice as old, for a disk may come back. What is lost cannot be
    /// reported to a sender who is lost with it; its segment is kept for the operator.
    pub(crate) fn unreadable(&self, due: &Due<Place>, error: &ReadError) {
        self.note_unreadable(due.id, due.place, error);
        let limit = match error {
            ReadError::Damaged(_) => due.expires,
            ReadError::Io(_) => due.expires + self.config.retry.max_age,
        };
        if limit <= self.host.now() {
            tracing::error!(target: "mtad::unreadable", id = %due.id, %error, "given up; its segment is kept as .damaged");
            self.forget_unreadable(due.id, due.place);
            self.log_of(due.place).keep(due.place);
            self.metrics.count.recipients_expired.add(due.recipients.len() as u64);
            let recipients = due.recipients.iter().map(|index| (*index, RecipientState::Expired)).collect();
            let record = OutcomeRecord { id: due.id, at: self.host.wall(), recipients };
            self.log_of(due.place).append_outcome(due.place, &record);
            return self.settle_queue(due.key, due.id, due.place, Indices::new(), due.expires);
        }
        self.metrics.count.recipients_deferred.add(due.recipients.len() as u64);
        let wait = self.config.retry.wait(due.attempts.saturating_add(1), self.host.random());
        self.settle_queue(due.key, due.id, due.place, due.recipients.clone(), self.host.now() + wait);
    }

    /// Looks at the ages of the next `budget` deliveries; those that are too old fail now, a bounded number at once.
    pub(crate) fn expire(&self, budget: usize) {
        let room = READS_MAX.saturating_sub(self.reading.get());
        let overdue = self.queue.borrow_mut().sweep(self.host.now(), budget, room);
        for due in overdue {
            self.fresh.borrow_mut().take(due.id);
            self.reading.set(self.reading.get() + 1);
            self.host.spawn(expire(self.me(), due));
        }
    }
}

/// Whether the sender wants no report on the recipient, whatever becomes of it.
fn is_never(envelope: &Envelope, index: u16) -> bool {
    envelope.asked(index).and_then(|asked| asked.notify) == Some(Notify::default())
}

/// The last reply, said to be the last.
fn expiry(last: &Reply) -> Reply {
    Reply::new(554, (5, 4, 7), format!("Delivery time expired; last reply: {last}"))
}

/// A delivery became too old while it waited: reads who sent it, and settles it as an attempt that came to nothing.
async fn expire<H: Host>(shard: Rc<Shard<H>>, due: Due<Place>) {
    let stored = read_contained(&shard, due.place).await;
    shard.reading.set(shard.reading.get() - 1);
    match stored {
        Ok(stored) => {
            shard.forget_unreadable(due.id, due.place);
            let content = match shard.returns_full(&stored.envelope, stored.content.len()) {
                true => stored.content,
                false => bounce::headers(&stored.content).to_vec(),
            };
            let content = Some(Content::new(content));
            let order = shard.order(due, Arc::new(stored.envelope), content, stored.accepted);
            let reply = Reply::new(451, (4, 4, 7), "no attempt succeeded in time");
            let outcomes = vec![Outcome::Deferred(reply); order.recipients.len()];
            shard.settle(Done { order, outcomes, next_hop: None, begun: shard.host.now(), rest: None });
        }
        Err(error) => return shard.unreadable(&due, &error),
    }
    // Where one is too old the next ones often are; one that could not be read waits for the next round.
    shard.expire(SWEEP_ON);
}
