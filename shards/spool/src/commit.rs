//! The committer: one task that writes one group after the other, while the next one gathers.
//!
//! A group is whatever came while the last one was being written, and a lone message finds the committer idle. Those
//! whose messages were in the last group often come back at once, so the next group waits for them, but no longer than
//! the last one took: fewer, larger groups cost less. Outcomes alone wait until they are due.

use crate::AppendError;
use crate::alarm::Cause;
use crate::gather::Batch;
use crate::log::{Health, Inner, Next, Phase, count};
use crate::record::{self, Kind};
use crate::segment::{Segment, Stage};
use crate::signal::Base;
use host::{File, Host, Planted};
use mail::Time;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Longest wait of a group for those who were in the last one.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// How the last group went, by which the next one is paced.
#[derive(Default)]
struct Pace {
    /// Messages in the last group and those that had gathered behind it: as many may come again.
    expected: u32,
    /// They are not waited for any longer.
    until: Time,
}

impl<H: Host> Inner<H> {
    /// Writes groups until the log is closed.
    pub async fn commit_all(self: Rc<Self>) {
        let (mut current, mut pace) = (None, Pace::default());
        loop {
            match self.take(&pace) {
                Ok(batch) => pace = self.commit_timed(batch, &mut current).await,
                Err(_) if self.phase.get() == Phase::Draining => break,
                Err(later) => {
                    if let Some(at) = later {
                        self.work.ring_at(&self.host, at);
                    }
                    self.work.wait().await;
                }
            }
        }
        self.phase.set(Phase::Stopped);
        self.gather.borrow().ticket.resolve(Err(AppendError::Closed));
        self.reclaim.ring();
    }

    async fn commit_timed(&self, batch: Batch, current: &mut Option<Segment<H>>) -> Pace {
        let (begun, messages) = (self.host.now(), batch.messages);
        self.commit(batch, current).await;
        let ended = self.host.now();
        let until = ended + ended.since(begun).min(GATHER_MAX);
        Pace { expected: messages + self.gather.borrow().messages, until }
    }

    /// What is to be written now; otherwise when to look again, if that is known. That is always later than now, for
    /// the clock may stand still until something is waited for.
    fn take(&self, pace: &Pace) -> Result<Batch, Option<Time>> {
        let now = self.host.now();
        let draining = self.phase.get() == Phase::Draining;
        let mut gather = self.gather.borrow_mut();
        let outcomes = self.outcomes.borrow();
        // After a failure something is written even if nobody waits: otherwise a log that takes no mail, because it
        // has failed, would never learn that its disk is well again.
        let probes = match self.health.get() {
            Health::Failed { retry } if draining || now < retry => return Err(Some(retry)),
            Health::Failed { .. } => true,
            Health::Suspect | Health::Good => false,
        };
        let outcomes_go = !outcomes.is_empty() && (draining || now >= outcomes.due);
        if gather.messages == 0 && !gather.joined && !outcomes_go && !probes {
            return Err((!outcomes.is_empty()).then_some(outcomes.due));
        }
        let is_early = (1..pace.expected).contains(&gather.messages) && now < pace.until;
        if is_early && !draining && !gather.joined && gather.is_unqueued() {
            return Err(Some(pace.until));
        }
        let batch = Batch { probes, ..gather.take() };
        drop(gather);
        self.wake_first();
        Ok(batch)
    }

    /// Writes one group, or as much of it as there is room for.
    async fn commit(&self, mut batch: Batch, current: &mut Option<Segment<H>>) {
        if let Err(error) = self.make_room(&batch, current).await {
            batch.refuse(error);
        }
        let Some(mut segment) = current.take() else {
            return self.postpone(batch);
        };
        self.fill(&mut batch, &segment);
        if batch.messages == 0 && batch.outcomes == 0 && !batch.probes {
            *current = Some(segment);
            return self.postpone(batch);
        }
        stamp(&mut batch, &segment);
        let base = Base { segment: segment.stamp.segment, offset: segment.offset as u32 };
        if self.host.planted(Planted::AckBeforeSync) {
            batch.ticket.resolve(Ok(base));
        }
        *self.writing.borrow_mut() = Some(Rc::clone(&batch.ticket));
        let Batch { mut buffer, messages, outcomes, outcome_bytes, older, ticket, probes } = batch;
        let used = buffer.len();
        buffer.pad_to_block();
        let padded = buffer.len() as u64;
        let (result, buffer) = segment.file.write_synced(buffer, segment.offset).await;
        let batch = Batch { buffer, messages, outcomes, outcome_bytes, older, ticket, probes };
        assert!(!self.host.planted(Planted::CommitterPanics), "a fault was planted");
        self.writing.take();
        match result {
            Ok(()) => {
                segment.offset += padded;
                segment.sequence += 1;
                *current = Some(segment);
                self.written(batch, base, padded);
            }
            Err(error) => self.unwritten(&batch, used, base, &error),
        }
    }

    /// Nothing can or need be written: who only waits for the others is done, and outcomes wait for a segment.
    fn postpone(&self, batch: Batch) {
        batch.ticket.resolve(Ok(Base { segment: 0, offset: 0 }));
        // Nothing better will come: a log that drains ends without its outcomes.
        let gives_up = self.phase.get() == Phase::Draining && !self.outcomes.borrow().is_empty();
        if gives_up || batch.probes {
            let retry = self.host.now() + self.limits.retry_delay;
            self.health.set(Health::Failed { retry });
        }
        self.outcomes.borrow_mut().due = self.host.now() + self.limits.retry_delay;
        self.gather.borrow_mut().give_back(batch.buffer, self.limits.group_bytes_max);
    }

    /// Sees to it that the current segment takes the batch, and takes the next one when it does not. An error means
    /// that its messages cannot be written.
    async fn make_room(&self, batch: &Batch, current: &mut Option<Segment<H>>) -> Result<(), AppendError> {
        let bytes = batch.buffer.len().next_multiple_of(host::buffer::BLOCK) as u64;
        loop {
            {
                let mut files = self.files.borrow_mut();
                let spared = batch.messages > 0 && !matches!(files.next, Next::Ready(_));
                let reserve = if spared { self.limits.reserve_bytes() } else { 0 };
                let end = self.limits.segment_bytes - reserve;
                if current.as_ref().is_some_and(|segment| segment.offset + bytes <= end) {
                    return Ok(());
                }
                match std::mem::replace(&mut files.next, Next::Wanted) {
                    Next::Ready(segment) => {
                        if let Some(full) = current.replace(segment) {
                            files.table.update(full.stamp.segment, |usage| usage.stage = Stage::Sealed);
                        }
                        self.reclaim.ring();
                        continue;
                    }
                    Next::Missing { error, retry } => {
                        files.next = Next::Missing { error, retry };
                        return Err(error);
                    }
                    Next::Wanted => self.reclaim.ring(),
                }
            }
            self.provided.wait().await;
        }
    }

    /// Lets outcomes ride along.
    fn fill(&self, batch: &mut Batch, segment: &Segment<H>) {
        let left = (self.limits.segment_bytes - segment.offset) as usize;
        let room =
            left.saturating_sub(batch.buffer.len()).min(self.limits.group_bytes_max.max(host::buffer::BLOCK));
        self.outcomes.borrow_mut().fill(batch, room);
    }

    fn written(&self, batch: Batch, base: Base, bytes: u64) {
        self.health.set(Health::Good);
        self.alarms.quiet(Cause::Write, self.host.now());
        self.files.borrow_mut().table.update(base.segment, |usage| {
            usage.live += batch.messages;
            batch.older.iter().for_each(|older| usage.refer(*older));
        });
        count(&self.counters.commits, 1);
        count(&self.counters.group_bytes, bytes);
        count(&self.counters.messages, u64::from(batch.messages));
        count(&self.counters.outcomes, u64::from(batch.outcomes));
        self.outcomes.borrow_mut().written(&batch);
        batch.ticket.resolve(Ok(base));
        self.gather.borrow_mut().give_back(batch.buffer, self.limits.group_bytes_max);
    }

    /// A failed write or sync is final for its segment: nothing is known of what the disk holds, and a second sync
    /// would call pages good that the kernel has already dropped.
    fn unwritten(&self, batch: &Batch, used: usize, base: Base, error: &io::Error) {
        self.alarm(Cause::Write, error);
        let (messages, outcomes) = batch.buffer[..used].split_at(used - batch.outcome_bytes);
        self.outcomes.borrow_mut().unwritten(messages, outcomes, base.segment, self.host.wall());
        self.files.borrow_mut().table.update(base.segment, |usage| usage.stage = Stage::Failed);
        count(&self.counters.failed_segments, 1);
        let now = self.host.now();
        self.outcomes.borrow_mut().due = now;
        let refusal = AppendError::from_io(error);
        batch.ticket.resolve(Err(refusal));
        if self.health.get() == Health::Good {
            self.health.set(Health::Suspect);
        } else {
            self.health.set(Health::Failed { retry: now + self.limits.retry_delay });
            // Those who gather have not been written anywhere, so that they need no outcome.
            let mut gathered = self.gather.borrow_mut().take();
            gathered.refuse(refusal);
            self.gather.borrow_mut().give_back(gathered.buffer, self.limits.group_bytes_max);
            self.wake_queued();
        }
        self.reclaim.ring();
    }
}

/// Gives every record its place, and notes which segments the outcomes are about.
fn stamp<H: Host>(batch: &mut Batch, segment: &Segment<H>) {
    record::set_group(&mut batch.buffer, segment.sequence, batch.messages + batch.outcomes);
    record::stamp(&mut batch.buffer, segment.stamp, segment.offset as u32);
    let mut at = record::GROUP_BYTES;
    while let Some(head) = batch.buffer.get(at..).and_then(record::Head::unstamped) {
        if head.kind == Kind::Outcome
            && let Some(older) = record::outcome_segment(&batch.buffer[at + record::HEAD_BYTES..])
            && older != segment.stamp.segment
            && batch.older.last() != Some(&older)
        {
            batch.older.push(older);
        }
        record::stamp(&mut batch.buffer[at..], segment.stamp, segment.offset as u32 + at as u32);
        at += (head.length as usize).next_multiple_of(record::ALIGN);
    }
}
