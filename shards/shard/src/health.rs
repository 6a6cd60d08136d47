//! Whether a shard takes mail, and what it does while it does not.
//!
//! | the home log | new mail, while another shard takes some | while none does |
//! |---|---|---|
//! | has failed, or its file system takes no writes | 421, and the shard does not listen | 451, and it listens |
//! | has less room than is to be kept free, or none | 421, and the shard does not listen | 452, and it listens |
//!
//! A shard that does not listen has closed its sockets, so that the kernel hands connections to the others. Deliveries go
//! on in any case: what is in memory needs no disk, and outcomes wait in memory or use the room that was kept free.

use crate::shard::Shard;
use host::{Host, Room};
use mail::{MessageId, Reply};
use spool::{Cause, LogState, Place, ReadError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

use crate::config::Spool;
use crate::signal::{Gate, Signal};

/// Messages that cannot be read and are remembered, so that each is told of once; beyond, they are only counted.
const UNREADABLE_MAX: usize = 1000;

/// Whether new mail is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Takes,
    /// There is too little room.
    Full,
    /// The disk does not do what it should.
    Failed,
}

/// What a shard knows of its own health.
#[derive(Debug)]
pub(crate) struct Health {
    standing: Cell<Standing>,
    room: Cell<Option<Room>>,
    short_of_bytes: Cell<bool>,
    short_of_inodes: Cell<bool>,
    unreadable: RefCell<BTreeSet<(u16, MessageId)>>,
    /// Open while the shard listens.
    pub(crate) gate: Gate,
    /// Why the shard is to end.
    fallen: RefCell<Option<String>>,
    falling: Signal,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            standing: Cell::new(Standing::Takes),
            room: Cell::new(None),
            short_of_bytes: Cell::new(false),
            short_of_inodes: Cell::new(false),
            unreadable: RefCell::default(),
            gate: Gate::open(),
            fallen: RefCell::default(),
            falling: Signal::default(),
        }
    }
}

impl Health {
    /// Whether new mail is taken.
    pub(crate) fn takes_mail(&self) -> bool {
        self.standing.get() == Standing::Takes
    }

    /// Waits until something has happened after which the shard is of no use, and tells what.
    pub(crate) async fn fall(&self) -> String {
        self.falling.wait().await;
        self.fallen.take().unwrap_or_else(|| "it fell without a word".into())
    }
}

/// So much is to be free: of a size of `all`, the larger of an absolute number and a share.
fn least(all: u64, absolute: u64, percent: u8) -> u64 {
    absolute.max(all / 100 * u64::from(percent))
}

/// So much must be free before mail is taken again: a quarter more, but not more than a file system can have.
fn enough(all: u64, least: u64) -> u64 {
    least + (least / 4).min(all.saturating_sub(least) / 4)
}

/// Whether less than the `least` is free, or less than `enough` after it was so.
fn is_short(all: u64, free: u64, least: u64, was_short: bool) -> bool {
    free < if was_short { enough(all, least) } else { least }
}

/// Bytes that are to be free.
fn least_bytes(room: &Room, spool: &Spool) -> u64 {
    least(room.bytes, spool.free_bytes_min, spool.free_percent_min)
}

impl<H: Host> Shard<H> {
    /// Looks at the logs and the room on their disk, and begins or ends to take mail.
    pub(crate) fn look_at_health(&self) {
        let now = self.host.now();
        for log in self.logs.values() {
            if log.state() == LogState::Fallen {
                self.fall(format!("a task of the log {} panicked", log.directory().display()));
            }
            log.alarms().tick(now);
        }
        let health = &self.health;
        // Spare segments are room too, or those that a full disk leaves behind would keep mail out for ever.
        let spare = self.home.spare_bytes();
        let room = self.host.room(self.home.directory());
        health.room.set(room.map(|room| Room { bytes_free: room.bytes_free.saturating_add(spare), ..room }));
        health.standing.set(self.standing());
        // Our own word first, then the others': of two shards that fail at once at least one goes on listening.
        let links = self.router.links();
        links.takes_mail[self.number].store(health.takes_mail(), SeqCst);
        health.gate.turn(health.takes_mail() || !self.others_take_mail());
    }

    fn standing(&self) -> Standing {
        let is_short = self.is_short_of_room();
        match self.home.state() {
            _ if self.is_read_only() => Standing::Failed,
            LogState::Failed | LogState::Closed | LogState::Fallen => Standing::Failed,
            LogState::Full => Standing::Full,
            LogState::Ready if is_short => Standing::Full,
            LogState::Ready => Standing::Takes,
        }
    }

    fn is_read_only(&self) -> bool {
        let is_read_only = self.health.room.get().is_some_and(|room| room.read_only);
        self.hold_alarm(Cause::ReadOnly, is_read_only, || {
            "the file system of the spool is read-only; see what the kernel says of it (dmesg)".into()
        });
        is_read_only
    }

    fn is_short_of_room(&self) -> bool {
        let (health, spool) = (&self.health, &self.config.spool);
        let room = health.room.get();
        let short = |all: u64, free: u64, least: u64, cause, short: &Cell<bool>, what: &str| {
            short.set(is_short(all, free, least, short.get()));
            self.hold_alarm(cause, short.get(), || {
                format!(
                    "{free} of {all} {what} are free, and {least} are to be: new mail gets 452 until {} are",
                    enough(all, least)
                )
            });
        };
        if let Some(room) = room {
            let bytes = least_bytes(&room, spool);
            short(room.bytes, room.bytes_free, bytes, Cause::Space, &health.short_of_bytes, "bytes");
            if room.inodes > 0 {
                let inodes = least(room.inodes, spool.free_inodes_min, spool.free_percent_min);
                let of_inodes = &health.short_of_inodes;
                short(room.inodes, room.inodes_free, inodes, Cause::Inodes, of_inodes, "inodes");
            }
        }
        health.short_of_bytes.get() || health.short_of_inodes.get()
    }

    fn hold_alarm(&self, cause: Cause, holds: bool, what: impl FnOnce() -> String) {
        self.home.alarms().hold(cause, holds, self.host.now(), self.host.wall(), what);
    }

    fn others_take_mail(&self) -> bool {
        let takes_mail = &self.router.links().takes_mail;
        takes_mail.iter().enumerate().any(|(shard, takes)| shard != self.number && takes.load(SeqCst))
    }

    /// Why a transaction with a message of `size` bytes is refused, if it is.
    pub(crate) fn refusal(&self, size: u64) -> Option<Reply> {
        let reply = match self.health.standing.get() {
            Standing::Takes if self.has_room_for(size) => return None,
            Standing::Takes => {
                Reply::new(452, (4, 3, 1), "No room for a message of this size, try again later")
            }
            _ if self.others_take_mail() => Reply::new(
                421,
                (4, 3, 2),
                "This connection cannot take mail at present, please connect again",
            ),
            Standing::Full => self.no_room(),
            Standing::Failed => {
                Reply::new(451, (4, 3, 0), "Mail cannot be stored at present, try again later")
            }
        };
        self.metrics.count.unwell_refused.bump();
        Some(reply)
    }

    /// Why a message that has come in is not stored although the log would take it: what room is left is for outcomes.
    pub(crate) fn refusal_to_store(&self) -> Option<Reply> {
        (self.health.standing.get() == Standing::Full).then(|| self.no_room())
    }

    fn no_room(&self) -> Reply {
        Reply::new(452, (4, 3, 1), "No room to store mail, try again later")
    }

    fn has_room_for(&self, size: u64) -> bool {
        self.health
            .room
            .get()
            .is_none_or(|room| room.bytes_free >= size.saturating_add(least_bytes(&room, &self.config.spool)))
    }

    /// A message cannot be read back. Told once for each message; the alarm is for all of them.
    pub(crate) fn note_unreadable(&self, id: MessageId, place: Place, error: &ReadError) {
        self.metrics.count.reads_failed.bump();
        let mut unreadable = self.health.unreadable.borrow_mut();
        if unreadable.len() >= UNREADABLE_MAX || !unreadable.insert((place.log, id)) {
            return;
        }
        tracing::error!(target: "mtad::unreadable", %id, ?place, %error, "message cannot be read back from the spool");
        let what = format!("{id} at {place:?}: {error}");
        self.log_of(place).alarms().raise(Cause::Read, self.host.now(), self.host.wall(), &what);
    }

    /// A message has been read, or is given up.
    pub(crate) fn forget_unreadable(&self, id: MessageId, place: Place) {
        let mut unreadable = self.health.unreadable.borrow_mut();
        if unreadable.remove(&(place.log, id)) && !unreadable.iter().any(|(log, _)| *log == place.log) {
            self.log_of(place).alarms().quiet(Cause::Read, self.host.now());
        }
    }

    /// Ends the shard, and with it the process: a restart makes it whole, going on would not.
    pub(crate) fn fall(&self, why: String) {
        self.health.fallen.borrow_mut().get_or_insert(why);
        self.health.falling.raise();
    }
}

/// Dropped while its task unwinds.
struct Fall<H: Host> {
    shard: Rc<Shard<H>>,
    task: &'static str,
}

/// Runs a task without which the shard is of no use: if it panics, the shard ends.
pub(crate) async fn vital<H: Host>(shard: Rc<Shard<H>>, task: &'static str, work: impl Future<Output = ()>) {
    let _fall = Fall { shard, task };
    work.await;
}

impl<H: Host> Drop for Fall<H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shard.fall(format!("its task {} panicked", self.task));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_taken_again_only_when_clearly_more_is_free() {
        let (all, least) = (1000, least(1000, 50, 10));
        assert_eq!((least, enough(all, least)), (100, 125));
        let mut short = false;
        let seen =
            [(101, false), (100, false), (99, true), (100, true), (124, true), (125, false), (100, false)];
        for (free, expected) in seen {
            short = is_short(all, free, least, short);
            assert_eq!(short, expected, "{free}");
        }
    }

    #[test]
    fn what_must_be_free_is_never_more_than_there_is() {
        for all in [0, 1, 100, 256, 257, 300, 1000] {
            let enough = enough(all, 256);
            assert!(enough <= all.max(256), "{enough} of {all}");
        }
        assert!(!is_short(0, 0, 0, true), "no bound is never short");
    }
}
