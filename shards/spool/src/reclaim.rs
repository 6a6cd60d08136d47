//! The reclaimer: one task that frees segments and has the next one ready before it is needed.
//!
//! A segment that goes takes its outcomes with it, so it goes only after the older ones that they are about, and only
//! once that is durable: renames and removals of one round do not depend on each other, and the next round starts
//! after `sync_dir`.

use crate::AppendError;
use crate::log::{Inner, Next, Phase, count};
use crate::segment::{Name, Segment, Stage, Usage};
use host::{File, Host};
use std::io;
use std::rc::Rc;

impl<H: Host> Inner<H> {
    /// Works whenever it is rung, until the committer has ended.
    pub async fn reclaim_all(self: Rc<Self>) {
        while self.phase.get() != Phase::Stopped {
            if let Err(error) = self.free().await {
                tracing::error!(log = self.number, %error, "cannot free segments");
                self.reclaim.ring_at(&self.host, self.host.now() + self.limits.retry_delay);
            }
            self.provide().await;
            self.remove_unwanted().await;
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
        let spare = usage.stage == Stage::Sealed && fits;
        let done = if usage.stage == Stage::Damaged {
            self.host.rename(&path, &Name::Damaged(number).path(&self.directory)).await
        } else if spare {
            self.host.rename(&path, &Name::Spare(number).path(&self.directory)).await
        } else {
            self.host.remove(&path).await
        };
        match done {
            // An earlier try did it, but reported an error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            done => done.map(|()| spare),
        }
    }

    /// Makes the next segment when it is wanted.
    pub async fn provide(&self) {
        let number = {
            let mut files = self.files.borrow_mut();
            let wanted = match files.next {
                Next::Wanted => true,
                Next::Ready(_) => false,
                Next::Missing { retry, .. } => !files.spares.is_empty() || self.host.now() >= retry,
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
            None => self.host.create_zeroed(&path, self.limits.segment_bytes).await?,
        };
        if file.size() != self.limits.segment_bytes {
            return Err(io::Error::other("a segment file has not its size"));
        }
        Segment::begin(&self.host, file, number).await
    }

    async fn missing(&self, number: u32, error: &io::Error) -> Next<H> {
        tracing::error!(log = self.number, segment = number, %error, "cannot make a segment");
        // What was made so far takes room away from others; at worst the next start removes it.
        self.host.remove(&Name::Segment(number).path(&self.directory)).await.ok();
        let error = AppendError::from_io(error);
        if error == AppendError::Failed {
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
