//! What came of an attempt goes on record, failures are reported to the sender, and what was deferred waits again.

use crate::content::Content;
use crate::dispatch::{READS_MAX, read_contained};
use crate::message::{Done, Order};
use crate::metrics::Stage;
use crate::shard::Shard;
use host::{Host, Planted};
use mail::bounce::{self, Failure, Report};
use mail::{Address, BodyType, Envelope, Indices, MessageId, Outcome, Reply, Time};
use queue::{DeliveryKey, Due};
use spool::{OutcomeRecord, Place, ReadError, RecipientState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Deliveries whose age is looked at when one has been found too old.
const SWEEP_ON: usize = 64;
/// Wait before a settlement is tried again whose report could not be stored.
const REPORT_RETRY: Duration = Duration::from_secs(10);

/// The outcomes of one attempt, sorted by what they mean for the message.
#[derive(Debug, Default)]
struct Verdict {
    /// Final states to be recorded.
    finals: Vec<(u16, RecipientState)>,
    /// Recipients that the sender must be told of.
    failures: Vec<Failure>,
    /// Recipients that wait again.
    deferred: Indices,
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
        if verdict.failures.is_empty() {
            self.record(&done.order, verdict);
            self.dispatch();
        } else {
            self.host.spawn(report_then_record(self.me(), done.order, verdict));
        }
    }

    fn judge_outcomes(&self, done: &Done) -> Verdict {
        let expired = done.order.expires <= self.host.now();
        let mut verdict = Verdict::default();
        let count = &self.metrics.count;
        for ((index, address), outcome) in done.order.addresses().zip(&done.outcomes) {
            let state = match outcome {
                Outcome::Delivered(_) => {
                    count.recipients_delivered.bump();
                    self.metrics.record(Stage::Delivered, self.host.wall().since(done.order.accepted));
                    RecipientState::Delivered
                }
                Outcome::Deferred(_) if !expired => {
                    count.recipients_deferred.bump();
                    verdict.deferred.push(index);
                    continue;
                }
                Outcome::Deferred(reply) => {
                    count.recipients_expired.bump();
                    verdict.failures.push(failure(address, expiry(reply), done));
                    RecipientState::Expired
                }
                Outcome::Failed(reply) => {
                    count.recipients_failed.bump();
                    verdict.failures.push(failure(address, reply.clone(), done));
                    RecipientState::Failed
                }
            };
            verdict.finals.push((index, state));
        }
        verdict
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
            next_hop = done.next_hop.as_deref().unwrap_or("-"),
            attempt = order.attempts + 1,
            recipients = order.recipients.len(),
            waited_us = age.saturating_sub(took).as_micros() as u64,
            transaction_us = took.as_micros() as u64,
            "attempt"
        );
        for ((_, address), outcome) in order.addresses().zip(&done.outcomes) {
            let (result, reply) = match outcome {
                Outcome::Delivered(reply) => ("delivered", reply),
                Outcome::Deferred(reply) if order.expires <= now => ("expired", reply),
                Outcome::Deferred(reply) => ("deferred", reply),
                Outcome::Failed(reply) => ("failed", reply),
            };
            let age_us = age.as_micros() as u64;
            tracing::info!(target: "mtad::outcome", id = %order.id, to = %address, result, age_us, %reply, "outcome");
        }
    }

    /// Puts the verdict on record and lets the queue go on.
    fn record(&self, order: &Order, verdict: Verdict) {
        let attempts = order.attempts.saturating_add(1);
        let wait = self.config.retry.wait(attempts, self.host.random());
        let again = (self.host.now() + wait).min(order.expires);
        let next = self.host.wall() + wait;
        let mut recipients = verdict.finals;
        recipients.extend(
            verdict.deferred.iter().map(|index| (*index, RecipientState::Waiting { attempts, next })),
        );
        let at = self.host.wall();
        let record = OutcomeRecord { id: order.id, at, recipients };
        self.log_of(order.place).append_outcome(order.place, &record);
        self.settle_queue(order.key, order.id, order.place, verdict.deferred, again);
    }

    fn settle_queue(&self, key: DeliveryKey, id: MessageId, place: Place, deferred: Indices, again: Time) {
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

fn failure(address: &Address, reply: Reply, done: &Done) -> Failure {
    Failure { recipient: address.clone(), reply, next_hop: done.next_hop.as_deref().map(String::from) }
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
            let headers = Content::new(bounce::headers(&stored.content).to_vec());
            let order = shard.order(due, Arc::new(stored.envelope), Some(headers), stored.accepted);
            let reply = Reply::new(451, (4, 4, 7), "no attempt succeeded in time");
            let outcomes = vec![Outcome::Deferred(reply); order.recipients.len()];
            shard.settle(Done { order, outcomes, next_hop: None, begun: shard.host.now(), rest: None });
        }
        Err(error) => return shard.unreadable(&due, &error),
    }
    // Where one is too old the next ones often are; one that could not be read waits for the next round.
    shard.expire(SWEEP_ON);
}

/// A failure counts only when its report is durable: the report first, then the record. What was delivered beside it
/// goes on record at once.
async fn report_then_record<H: Host>(shard: Rc<Shard<H>>, order: Box<Order>, verdict: Verdict) {
    let Verdict { finals, failures, mut deferred } = verdict;
    let is_delivered = |(_, state): &(u16, RecipientState)| *state == RecipientState::Delivered;
    let (delivered, failed): (Vec<_>, Vec<_>) = finals.into_iter().partition(is_delivered);
    if !delivered.is_empty() {
        let record = OutcomeRecord { id: order.id, at: shard.host.wall(), recipients: delivered };
        shard.log_of(order.place).append_outcome(order.place, &record);
    }
    match report(&shard, &order, &failures).await {
        Ok(()) => shard.record(&order, Verdict { finals: failed, failures, deferred }),
        Err(error) => {
            tracing::error!(id = %order.id, error, "failure report not stored; trying again later");
            deferred.extend(failed.iter().map(|(index, _)| *index));
            let again = shard.host.now() + REPORT_RETRY;
            shard.settle_queue(order.key, order.id, order.place, deferred, again);
        }
    }
    shard.dispatch();
}

/// Stores and queues the report to the sender. A null reverse-path gets none (RFC 5321 section 4.5.5).
async fn report<H: Host>(shard: &Rc<Shard<H>>, order: &Order, failures: &[Failure]) -> Result<(), String> {
    let Some(sender) = &order.envelope.sender else {
        shard.metrics.count.bounces_suppressed.bump();
        return Ok(());
    };
    let original = match &order.content {
        Some(content) => bounce::headers(content.bytes()).to_vec(),
        None => match read_contained(shard, order.place).await {
            Ok(stored) => bounce::headers(&stored.content).to_vec(),
            Err(error) => return Err(error.to_string()),
        },
    };
    let now = shard.host.wall();
    let id = shard.ids.borrow_mut().next(now);
    let report = Report {
        hostname: &shard.config.hostname,
        id,
        at: now,
        sender,
        original: order.id,
        arrived: order.accepted,
        failures,
        headers: &original,
        utf8: order.envelope.utf8,
    };
    let content = bounce::report(&report);
    let utf8 = report.is_utf8();
    let body = if utf8 { BodyType::EightBit } else { BodyType::SevenBit };
    let envelope = Envelope { sender: None, recipients: vec![sender.clone()], body, utf8 };
    let appended = shard.home.append_message(id, now, &envelope, &content).await;
    let place = appended.map_err(|error| error.to_string())?;
    shard.metrics.count.bounces_sent.bump();
    tracing::info!(target: "mtad::report", %id, about = %order.id, to = %sender, recipients = failures.len(), "report");
    shard.enqueue(id, place, envelope, Content::new(content), now);
    Ok(())
}
