//! A log as its shard sees it: append, flush, retire, close. The work is done by two tasks, the committer
//! (`commit`) and the reclaimer (`reclaim`).

use crate::alarm::{Alarms, Cause};
use crate::damaged::{self, Damaged};
use crate::fall;
use crate::gather::{Gather, Outcomes};
use crate::recover::{self, Merge, Recovered};
use crate::segment::{Name, Segment, Stage, Table};
use crate::signal::{Signal, Ticket};
use crate::{AppendError, Limits, OpenError, OutcomeRecord, Place, record};
use host::{File, Host};
use mail::{Envelope, MessageId, Time, WallTime};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

/// How much of a segment is read at a time at the start.
const PIECE_BYTES: u64 = 1 << 20;

/// One append-only log in one directory, owned by one shard. Clones are the same log. It lives until it is closed.
pub struct Log<H: Host> {
    inner: Rc<Inner<H>>,
}

impl<H: Host> Clone for Log<H> {
    fn clone(&self) -> Log<H> {
        Log { inner: Rc::clone(&self.inner) }
    }
}

/// What a log does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogState {
    /// It takes messages.
    Ready,
    /// No room for another segment: it takes outcomes only, as far as the current segment reaches.
    Full,
    /// The disk failed: it takes nothing, and tries again after [`Limits::retry_delay`].
    Failed,
    /// Closed.
    Closed,
    /// One of its tasks has panicked: only a restart helps.
    Fallen,
}

/// Counters since the log was opened, and gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStats {
    /// Groups written and synced.
    pub commits: u64,
    /// Their bytes, padding included.
    pub group_bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Outcome records in them.
    pub outcomes: u64,
    /// Outcomes forgotten beyond [`Limits::outcome_bytes_max`].
    pub outcomes_dropped: u64,
    /// Appends refused, for whatever reason.
    pub refused: u64,
    /// Segments given up after a failed write.
    pub failed_segments: u64,
    /// Bytes of outcomes that wait.
    pub outcome_bytes_pending: usize,
    /// Messages in the log that are not retired.
    pub live_messages: u64,
    /// Segment files, the one being written included.
    pub segments: usize,
    /// Bytes of files: segments and spares.
    pub bytes: u64,
    /// Spare files.
    pub spares: usize,
    /// Damaged segments kept for the operator.
    pub damaged: usize,
    /// What it does.
    pub state: LogState,
}

/// Counters only.
#[derive(Default)]
pub(crate) struct Counters {
    pub commits: Cell<u64>,
    pub group_bytes: Cell<u64>,
    pub messages: Cell<u64>,
    pub outcomes: Cell<u64>,
    pub outcomes_dropped: Cell<u64>,
    pub refused: Cell<u64>,
    pub failed_segments: Cell<u64>,
}

pub(crate) fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get() + by);
}

/// What the last writes say of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// They went well.
    Good,
    /// The last one failed; the next goes to another segment.
    Suspect,
    /// That failed too: nothing is written before `retry`.
    Failed { retry: Time },
}

/// The segment after the current one.
pub(crate) enum Next<H: Host> {
    /// The reclaimer is to make it.
    Wanted,
    /// It can be written.
    Ready(Segment<H>),
    /// It could not be made, for this reason; to be tried again at `retry`, or as soon as there is a spare.
    Missing { error: AppendError, retry: Time },
}

/// How far the log is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes appends.
    Running,
    /// It takes none, and writes what it has.
    Draining,
    /// The committer has ended.
    Stopped,
}

/// The files of the log.
pub(crate) struct Files<H: Host> {
    pub table: Table,
    pub next: Next<H>,
    /// Numbers of the spare files.
    pub spares: Vec<u32>,
    /// Spares found at the start that are not wanted.
    pub unwanted: Vec<u32>,
    /// Above every number in the directory.
    pub next_number: u32,
}

pub(crate) struct Inner<H: Host> {
    pub host: H,
    pub directory: PathBuf,
    pub number: u16,
    pub limits: Limits,
    pub gather: RefCell<Gather>,
    pub outcomes: RefCell<Outcomes>,
    pub files: RefCell<Files<H>>,
    pub health: Cell<Health>,
    pub phase: Cell<Phase>,
    pub counters: Counters,
    pub alarms: Alarms,
    /// Files set aside for the operator.
    pub damaged: RefCell<Damaged>,
    /// Segments that are to be set aside once nothing else in them is needed.
    pub kept: RefCell<BTreeSet<u32>>,
    /// Of the group that is being written.
    pub writing: RefCell<Option<Rc<Ticket>>>,
    pub has_fallen: Cell<bool>,
    /// Rings for the committer: there may be something to write.
    pub work: Rc<Signal>,
    /// Rings for the committer: the next segment is ready or missing.
    pub provided: Signal,
    /// Rings for the reclaimer.
    pub reclaim: Rc<Signal>,
    /// Resolved when both tasks have ended.
    pub ended: Ticket,
}

impl<H: Host> Log<H> {
    /// Opens the log in `directory` (made when it is not there), whose name ends in `number`, reads what it holds and
    /// starts its tasks. Waits for the first segment to write to, but does not insist on it: on a full disk what is in
    /// the log can still be delivered.
    pub async fn open(
        host: H,
        directory: PathBuf,
        number: u16,
        limits: Limits,
    ) -> Result<(Log<H>, Recovered), OpenError> {
        limits.check()?;
        let started = host.now();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Io { path, error }
        };
        host.create_dir(&directory).await.map_err(failed(&directory))?;
        let names = host.list_dir(&directory).await.map_err(failed(&directory))?;
        let names: Vec<Name> = names.iter().filter_map(|name| Name::parse(name)).collect();
        let mut merge = Merge::new(number);
        let mut bytes = Vec::new();
        for number in sorted(&names, |name| matches!(name, Name::Segment(_))) {
            let path = Name::Segment(number).path(&directory);
            match host.open_read(&path).await {
                Ok(file) => read_segment(&file, number, &mut bytes, &mut merge).await,
                Err(error) if damaged::is_of_the_file(&error) => {
                    tracing::error!(path = %path.display(), %error, "a segment cannot be opened and is set aside");
                    merge.add(number, 0, recover::Scan::default());
                    merge.unreadable(number, 0, 0);
                }
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        drop(bytes);
        let (mut recovered, table) = merge.finish();
        let files = Files {
            table: Table(table),
            next: Next::Wanted,
            spares: Vec::new(),
            unwanted: sorted(&names, |name| matches!(name, Name::Spare(_))),
            next_number: names.iter().map(|name| name.number()).max().map_or(1, |n| n.saturating_add(1)),
        };
        let inner = Rc::new(Inner::new(host, directory, number, limits, files));
        inner.sort_spares().await;
        inner.find_damaged(sorted(&names, |name| matches!(name, Name::Damaged(_)))).await;
        // What a restart frees is a segment at hand, and on a full disk the only one.
        if let Err(error) = inner.free().await {
            inner.alarm(Cause::Reclaim, &error);
        }
        inner.provide().await;
        inner.host.spawn(fall::watch(Rc::clone(&inner), "committer", Rc::clone(&inner).commit_all()));
        inner.host.spawn(fall::watch(Rc::clone(&inner), "reclaimer", Rc::clone(&inner).reclaim_all()));
        inner.reclaim.ring();
        recovered.report.took = inner.host.now().since(started);
        Ok((Log { inner }, recovered))
    }

    /// Stores a message and returns where it is, as soon as a completed write and sync covers it.
    pub async fn append_message(
        &self,
        id: MessageId,
        accepted: WallTime,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<Place, AppendError> {
        let appended = self.inner.append_message(id, accepted, envelope, content).await;
        if appended.is_err() {
            count(&self.inner.counters.refused, 1);
        }
        appended
    }

    /// Records new states of recipients of the message at `place`, with the next group or after
    /// [`Limits::outcome_delay`]. It is kept until it is written, however often that fails, with the one exception
    /// at [`Limits::outcome_bytes_max`].
    pub fn append_outcome(&self, place: Place, outcome: &OutcomeRecord) {
        let inner = &self.inner;
        let mut outcomes = inner.outcomes.borrow_mut();
        let is_dispensable = outcome.recipients.iter().all(|(_, state)| !state.is_final());
        if is_dispensable && outcomes.len() >= inner.limits.outcome_bytes_max {
            count(&inner.counters.outcomes_dropped, 1);
            return;
        }
        let first = outcomes.is_empty();
        outcomes.add(place.segment, outcome);
        if first {
            outcomes.due = inner.host.now() + inner.limits.outcome_delay;
            drop(outcomes);
            inner.work.ring();
        }
    }

    /// Waits until all that was appended so far is durable. An error says that some of it is not, yet.
    pub async fn flush(&self) -> Result<(), AppendError> {
        let inner = &self.inner;
        let mark = inner.outcomes.borrow().mark();
        loop {
            if inner.phase.get() != Phase::Running {
                return Err(AppendError::Closed);
            }
            if let Health::Failed { retry } = inner.health.get()
                && inner.host.now() < retry
            {
                return Err(AppendError::Failed);
            }
            let ticket = {
                let mut gather = inner.gather.borrow_mut();
                gather.joined = true;
                Rc::clone(&gather.ticket)
            };
            inner.work.ring();
            ticket.wait().await?;
            if inner.outcomes.borrow().are_durable(mark) {
                return Ok(());
            }
        }
    }

    /// Says that the last recipient of the message at `place` has a final outcome, which has been appended. Its
    /// segment is freed when nothing else holds it.
    pub fn retire(&self, id: MessageId, place: Place) {
        let mut freed = false;
        self.inner.files.borrow_mut().table.update(place.segment, |usage| {
            if usage.live == 0 {
                tracing::error!(log = self.inner.number, %id, ?place, "a message was retired twice");
                return;
            }
            usage.live -= 1;
            freed = usage.live == 0 && usage.stage != Stage::Open;
        });
        if freed {
            self.inner.reclaim.ring();
        }
    }

    /// Sets the segment of the message at `place`, which cannot be read, aside for the operator as soon as nothing else
    /// in it is needed.
    pub fn keep(&self, place: Place) {
        self.inner.kept.borrow_mut().insert(place.segment);
    }

    /// What it does.
    pub fn state(&self) -> LogState {
        self.inner.state()
    }

    /// What is wrong with it.
    pub fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    /// Bytes of the segments that are kept for reuse: room that the file system counts as used.
    pub fn spare_bytes(&self) -> u64 {
        self.inner.files.borrow().spares.len() as u64 * self.inner.limits.segment_bytes
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LogStats {
        self.inner.stats()
    }

    /// Refuses further appends, writes what it has, and ends the log's tasks. Outcomes that the disk still does not
    /// take are lost, and so are those that are appended later.
    pub async fn close(&self) {
        let inner = &self.inner;
        if inner.phase.get() == Phase::Running {
            inner.phase.set(Phase::Draining);
            inner.wake_queued();
            inner.work.ring();
        }
        // The result says only that they have ended.
        inner.ended.wait().await.ok();
    }
}

fn sorted(names: &[Name], is_wanted: impl Fn(&Name) -> bool) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        names.iter().filter(|name| is_wanted(name)).map(|name| name.number()).collect();
    numbers.sort_unstable();
    numbers
}

/// Reads one segment into `bytes`, piece by piece. A piece that cannot be read counts as zeros.
async fn read_segment(file: &impl File, number: u32, bytes: &mut Vec<u8>, merge: &mut Merge) {
    let size = file.size().min(u64::from(u32::MAX));
    let mut unreadable = Vec::new();
    bytes.clear();
    while (bytes.len() as u64) < size {
        let offset = bytes.len() as u64;
        let len = PIECE_BYTES.min(size - offset);
        match file.read_at(offset, len as usize).await {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => {
                unreadable.push((offset, len));
                bytes.resize((offset + len) as usize, 0);
            }
        }
    }
    let scanned = catch_unwind(AssertUnwindSafe(|| recover::scan(number, bytes)));
    let is_known = scanned.is_ok();
    merge.add(number, file.size(), scanned.unwrap_or_default());
    if !is_known {
        // A mistake of ours must not keep the other segments from being read at this start, and at every other one.
        merge.unreadable(number, 0, size);
    }
    for (offset, len) in unreadable {
        merge.unreadable(number, offset, len);
    }
}

impl<H: Host> Inner<H> {
    fn new(host: H, directory: PathBuf, number: u16, limits: Limits, files: Files<H>) -> Inner<H> {
        Inner {
            host,
            directory,
            number,
            limits,
            gather: RefCell::new(Gather::new()),
            outcomes: RefCell::default(),
            files: RefCell::new(files),
            health: Cell::new(Health::Good),
            phase: Cell::new(Phase::Running),
            counters: Counters::default(),
            alarms: Alarms::new(number),
            damaged: RefCell::default(),
            kept: RefCell::default(),
            writing: RefCell::default(),
            has_fallen: Cell::new(false),
            work: Rc::default(),
            provided: Signal::default(),
            reclaim: Rc::default(),
            ended: Ticket::default(),
        }
    }

    async fn append_message(
        &self,
        id: MessageId,
        accepted: WallTime,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<Place, AppendError> {
        let bytes = record::message_bytes(envelope, content.len());
        if record::GROUP_BYTES + bytes > self.limits.group_room() || !record::is_storable(envelope) {
            return Err(AppendError::TooLarge);
        }
        self.enter(bytes).await?;
        let (ticket, at, length) = {
            let mut gather = self.gather.borrow_mut();
            let at = gather.buffer.len() as u32;
            let length = record::put_message(&mut gather.buffer, id, accepted, envelope, content);
            gather.messages += 1;
            (Rc::clone(&gather.ticket), at, length)
        };
        self.work.ring();
        let base = ticket.wait().await?;
        Ok(Place { log: self.number, segment: base.segment, offset: base.offset + at, length })
    }

    /// Waits until the group that gathers has room, in the order of arrival.
    async fn enter(&self, bytes: usize) -> Result<(), AppendError> {
        self.refusal().map_or(Ok(()), Err)?;
        let turn = {
            let mut gather = self.gather.borrow_mut();
            if gather.is_unqueued() && gather.has_room(bytes, self.group_bytes_max()) {
                return Ok(());
            }
            if gather.pending_bytes() + bytes > self.limits.pending_bytes_max {
                return Err(AppendError::Busy);
            }
            gather.queue(bytes)
        };
        let turn = Turn { log: self, turn };
        poll_fn(|context| {
            if let Some(error) = self.refusal() {
                return Poll::Ready(Err(error));
            }
            let mut gather = self.gather.borrow_mut();
            let enters =
                gather.is_next(turn.turn, context.waker()) && gather.has_room(bytes, self.group_bytes_max());
            if enters { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    pub fn group_bytes_max(&self) -> usize {
        self.limits.group_bytes_max.min(self.limits.group_room())
    }

    /// Why messages are not taken at present.
    fn refusal(&self) -> Option<AppendError> {
        if self.phase.get() != Phase::Running {
            return Some(AppendError::Closed);
        }
        if let Health::Failed { retry } = self.health.get()
            && self.host.now() < retry
        {
            return Some(AppendError::Failed);
        }
        match self.files.borrow().next {
            Next::Missing { error, .. } => Some(error),
            Next::Wanted | Next::Ready(_) => None,
        }
    }

    /// Lets all who wait for a group look again.
    pub fn wake_queued(&self) {
        let wakers = self.gather.borrow_mut().wakers();
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Lets the first who waits for a group look again.
    pub fn wake_first(&self) {
        let waker = self.gather.borrow_mut().first_waker();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Keeps the spares that fit, and leaves the others to the reclaimer.
    async fn sort_spares(&self) {
        let found = std::mem::take(&mut self.files.borrow_mut().unwanted);
        for number in found {
            let fits =
                self.files.borrow().spares.len() < self.limits.spares_max && self.is_whole(number).await;
            let mut files = self.files.borrow_mut();
            if fits { files.spares.push(number) } else { files.unwanted.push(number) }
        }
    }

    async fn is_whole(&self, spare: u32) -> bool {
        let file: io::Result<H::File> = self.host.open_read(&Name::Spare(spare).path(&self.directory)).await;
        file.is_ok_and(|file| file.size() == self.limits.segment_bytes)
    }

    /// Raises an alarm.
    pub fn alarm(&self, cause: Cause, error: &io::Error) {
        self.alarms.raise(cause, self.host.now(), self.host.wall(), error);
    }

    fn state(&self) -> LogState {
        match (self.phase.get(), self.health.get(), &self.files.borrow().next) {
            _ if self.has_fallen.get() => LogState::Fallen,
            (Phase::Draining | Phase::Stopped, ..) => LogState::Closed,
            (_, Health::Failed { .. }, _) => LogState::Failed,
            (_, _, Next::Missing { error: AppendError::Full, .. }) => LogState::Full,
            (_, _, Next::Missing { .. }) => LogState::Failed,
            (_, _, Next::Wanted | Next::Ready(_)) => LogState::Ready,
        }
    }

    fn stats(&self) -> LogStats {
        let (files, counters) = (self.files.borrow(), &self.counters);
        let table: &BTreeMap<_, _> = &files.table.0;
        LogStats {
            commits: counters.commits.get(),
            group_bytes: counters.group_bytes.get(),
            messages: counters.messages.get(),
            outcomes: counters.outcomes.get(),
            outcomes_dropped: counters.outcomes_dropped.get(),
            refused: counters.refused.get(),
            failed_segments: counters.failed_segments.get(),
            outcome_bytes_pending: self.outcomes.borrow().len(),
            live_messages: table.values().map(|usage| u64::from(usage.live)).sum(),
            segments: table.len(),
            bytes: table.values().map(|usage| usage.bytes).sum::<u64>()
                + files.spares.len() as u64 * self.limits.segment_bytes,
            spares: files.spares.len(),
            damaged: self.damaged.borrow().len(),
            state: self.state(),
        }
    }
}

/// A place in the queue for the next group; given up when the append enters, is refused or is dropped.
struct Turn<'a, H: Host> {
    log: &'a Inner<H>,
    turn: u64,
}

impl<H: Host> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        self.log.gather.borrow_mut().leave(self.turn);
        // The next one may have room too; it looks after this one has put its bytes in.
        self.log.wake_first();
    }
}
