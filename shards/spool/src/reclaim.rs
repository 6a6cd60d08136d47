//! The reclaimer: one task that frees segments and has the next one ready before it is needed.
//!
//! A segment that goes takes its outcomes with it, so it goes only after the older ones that they are about, and only
//! once that is durable: renames and removals of one round do not depend on each other, and the next round starts
//! after `sync_dir`.

use crate::AppendError;
use crate::alarm::Cause;
use crate::log::{Inner, Next, Phase, count};
use crate::segment::{Name, Segment, Stage, Usage};
use host::{File, Host};
use std::io;
use std::path::Path;
use std::rc::Rc;

impl<H: Host> Inner<H> {
    /// Works whenever it is rung, until the committer has ended.
    pub async fn reclaim_all(self: Rc<Self>) {
        while self.phase.get() != Phase::Stopped {
            match self.free().await {
                Ok(()) => self.alarms.quiet(Cause::Reclaim, self.host.now()),
                Err(error) => {
                    self.alarm(Cause::Reclaim, &error);
                    self.reclaim.ring_at(&self.host, self.host.now() + self.limits.retry_delay);
                }
            }
            self.provide().await;
            self.remove_unwanted().await;
            self.bound_damaged().await;
            self.reclaim.wait().await;
        }
        self.ended.resolve(Err(AppendError::Closed));
    }

    /// Frees what can be freed, round by round.
    pub async fn free(&self) -> io::Result<()> {
        loop {
            let free = self.files.borrow().table.free();
            for (number, usage) in free {
                let spare = self.let_go(number, &usage).await?;
                let leaving = Stage::Leaving { spare };
                self.files.borrow_mut().table.update(number, |usage| usage.stage = leaving);
            }
            let leaving = self.files.borrow().table.leaving();
            if leaving.is_empty() {
                return Ok(());
            }
            self.host.sync_dir(&self.directory).await?;
            let mut files = self.files.borrow_mut();
            for (number, spare) in leaving {
                files.table.0.remove(&number);
                files.spares.extend(spare.then_some(number));
            }
        }
    }

    /// Renames or removes one segment, and says whether it became a spare.
    async fn let_go(&self, number: u32, usage: &Usage) -> io::Result<bool> {
        let path = Name::Segment(number).path(&self.directory);
        let spares = {
            let files = self.files.borrow();
            files.spares.len() + files.table.leaving().iter().filter(|(_, spare)| *spare).count()
        };
        let fits = spares < self.limits.spares_max && usage.bytes == self.limits.segment_bytes;
        let is_damaged = usage.stage == Stage::Damaged || self.kept.borrow().contains(&number);
        let spare = usage.stage == Stage::Sealed && fits && !is_damaged;
        let done = if is_damaged {
            self.host.rename(&path, &Name::Damaged(number).path(&self.directory)).await
        } else if spare {
            self.host.rename(&path, &Name::Spare(number).path(&self.directory)).await
        } else {
            self.host.remove(&path).await
        };
        match done {
            // An earlier try did it, but reported an error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            done => {
                done?;
                if is_damaged {
                    self.kept.borrow_mut().remove(&number);
                    self.damaged.borrow_mut().insert(number, usage.bytes);
                }
                Ok(spare)
            }
        }
    }

    /// Makes the next segment when it is wanted.
    pub async fn provide(&self) {
        let number = {
            let mut files = self.files.borrow_mut();
            let wanted = match files.next {
                Next::Wanted => true,
                Next::Ready(_) => false,
                Next::Missing { retry, .. } => {
                    let is_due = self.host.now() >= retry;
                    if !is_due {
                        // What rang may have been set for something earlier, and have taken the place of this retry.
                        self.reclaim.ring_at(&self.host, retry);
                    }
                    is_due || !files.spares.is_empty()
                }
            };
            if !wanted {
                return;
            }
            let number = files.next_number;
            files.next_number = number.saturating_add(1);
            number
        };
        let next = match self.make(number).await {
            Ok(segment) => {
                let now = self.host.now();
                [Cause::Full, Cause::Segment].iter().for_each(|cause| self.alarms.quiet(*cause, now));
                let usage = Usage::new(Stage::Open, self.limits.segment_bytes);
                self.files.borrow_mut().table.0.insert(number, usage);
                Next::Ready(segment)
            }
            Err(error) => self.missing(number, &error).await,
        };
        self.files.borrow_mut().next = next;
        self.provided.ring();
        self.work.ring();
        self.wake_queued();
    }

    /// Turns a spare, or a new file, into the segment `number`.
    async fn make(&self, number: u32) -> io::Result<Segment<H>> {
        if number == u32::MAX {
            return Err(io::Error::other("segment numbers are used up"));
        }
        let path = Name::Segment(number).path(&self.directory);
        let spare = self.files.borrow_mut().spares.pop();
        let file = match spare {
            Some(spare) => {
                self.host.rename(&Name::Spare(spare).path(&self.directory), &path).await?;
                self.host.sync_dir(&self.directory).await?;
                self.host.open_write(&path).await?
            }
            None => self.create(&path).await?,
        };
        if file.size() != self.limits.segment_bytes {
            return Err(io::Error::other("a segment file has not its size"));
        }
        Segment::begin(&self.host, file, number).await
    }

    /// Makes a new file, but does not begin to when it cannot fit: trying fills the disk to the brim each time.
    async fn create(&self, path: &Path) -> io::Result<H::File> {
        let size = self.limits.segment_bytes;
        match self.host.room(&self.directory).map(|room| room.bytes_free) {
            Some(free) if free < size => {
                let what = format!("a segment takes {size} bytes, and {free} are free");
                Err(io::Error::new(io::ErrorKind::StorageFull, what))
            }
            _ => self.host.create_zeroed(path, size).await,
        }
    }

    async fn missing(&self, number: u32, error: &io::Error) -> Next<H> {
        // What was made so far takes room away from others; at worst the next start removes it.
        self.host.remove(&Name::Segment(number).path(&self.directory)).await.ok();
        let cause = error;
        let error = AppendError::from_io(cause);
        let is_full = error == AppendError::Full;
        self.alarm(if is_full { Cause::Full } else { Cause::Segment }, cause);
        if !is_full {
            count(&self.counters.failed_segments, 1);
        }
        let retry = self.host.now() + self.limits.retry_delay;
        self.reclaim.ring_at(&self.host, retry);
        Next::Missing { error, retry }
    }

    /// Removes the spares that were too many or of another size at the start. Nothing depends on it.
    async fn remove_unwanted(&self) {
        let unwanted = std::mem::take(&mut self.files.borrow_mut().unwanted);
        for number in unwanted {
            self.host.remove(&Name::Spare(number).path(&self.directory)).await.ok();
        }
    }
}
