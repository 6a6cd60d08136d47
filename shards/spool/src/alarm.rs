//! What an operator must know of a log: one alarm for each cause, told once when it begins and once when it is over.

use mail::{Time, WallTime};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

/// An alarm is over once its cause has been away for so long: a disk that fails now and then is one alarm, not many.
const QUIET: Duration = Duration::from_secs(10);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A write or sync failed.
    Write,
    /// No segment can be made, for want of room.
    Full,
    /// No segment can be made, for another reason.
    Segment,
    /// Segments that are done with cannot be removed or renamed.
    Reclaim,
    /// A message cannot be read back.
    Read,
    /// Fewer bytes are free than are to be kept free.
    Space,
    /// Fewer files can be made than are to be kept possible.
    Inodes,
    /// The file system takes no writes.
    ReadOnly,
    /// A task of the log has panicked.
    Panic,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 9] = [
        Cause::Write,
        Cause::Full,
        Cause::Segment,
        Cause::Reclaim,
        Cause::Read,
        Cause::Space,
        Cause::Inodes,
        Cause::ReadOnly,
        Cause::Panic,
    ];

    /// Its name in metrics and log records.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Write => "write",
            Cause::Full => "full",
            Cause::Segment => "segment",
            Cause::Reclaim => "reclaim",
            Cause::Read => "read",
            Cause::Space => "space",
            Cause::Inodes => "inodes",
            Cause::ReadOnly => "read_only",
            Cause::Panic => "panic",
        }
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An alarm as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The log's number.
    pub log: u16,
    /// What is wrong.
    pub cause: Cause,
    /// When it began.
    pub since: WallTime,
    /// How often it has happened since.
    pub times: u64,
    /// What was said when it began.
    pub what: String,
}

/// The alarms of one log.
#[derive(Debug)]
pub struct Alarms {
    log: u16,
    raised: RefCell<BTreeMap<Cause, Raised>>,
}

#[derive(Debug)]
struct Raised {
    at: Time,
    since: WallTime,
    times: u64,
    what: String,
    quiet_since: Option<Time>,
}

impl Alarms {
    pub(crate) fn new(log: u16) -> Alarms {
        Alarms { log, raised: RefCell::default() }
    }

    /// It has happened, or goes on: told when it is new.
    pub fn raise(&self, cause: Cause, now: Time, wall: WallTime, what: &dyn Display) {
        let mut raised = self.raised.borrow_mut();
        if let Some(known) = raised.get_mut(&cause) {
            known.times += 1;
            known.quiet_since = None;
            return;
        }
        let what = what.to_string();
        tracing::error!(target: "mtad::alarm", log = self.log, %cause, what, "alarm");
        raised.insert(cause, Raised { at: now, since: wall, times: 1, what, quiet_since: None });
    }

    /// It has gone: the alarm is over unless it comes back soon.
    pub fn quiet(&self, cause: Cause, now: Time) {
        let mut raised = self.raised.borrow_mut();
        // This is asked after each group, and hardly ever is there an alarm.
        if raised.is_empty() {
            return;
        }
        if let Some(known) = raised.get_mut(&cause) {
            known.quiet_since.get_or_insert(now);
        }
    }

    /// Raises or quiets what lasts. Counted once however often it is seen.
    pub fn hold(&self, cause: Cause, holds: bool, now: Time, wall: WallTime, what: impl FnOnce() -> String) {
        let is_held = self.raised.borrow().get(&cause).is_some_and(|known| known.quiet_since.is_none());
        match (holds, is_held) {
            (true, false) => self.raise(cause, now, wall, &what()),
            (false, true) => self.quiet(cause, now),
            _ => {}
        }
    }

    /// Tells of the alarms that are over. To be called now and then.
    pub fn tick(&self, now: Time) {
        let is_over = |known: &Raised| known.quiet_since.is_some_and(|since| now.since(since) >= QUIET);
        let over = |cause: &Cause, known: &mut Raised| {
            let over = is_over(known);
            if over {
                let lasted_s = now.since(known.at).as_secs();
                let (what, times) = (&known.what, known.times);
                tracing::error!(target: "mtad::alarm", log = self.log, %cause, lasted_s, times, what, "alarm is over");
            }
            !over
        };
        self.raised.borrow_mut().retain(over);
    }

    /// The alarms at present.
    pub fn list(&self) -> Vec<Alarm> {
        let raised = self.raised.borrow();
        let alarm = |(cause, known): (&Cause, &Raised)| Alarm {
            log: self.log,
            cause: *cause,
            since: known.since,
            times: known.times,
            what: known.what.clone(),
        };
        raised.iter().map(alarm).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn an_alarm_is_one_until_its_cause_has_been_away_for_a_while() {
        let alarms = Alarms::new(3);
        alarms.quiet(Cause::Write, at(0));
        for second in [1, 5, 9] {
            alarms.raise(Cause::Write, at(second), WallTime(second), &format!("failure {second}"));
            alarms.quiet(Cause::Write, at(second + 1));
            alarms.tick(at(second + 2));
        }
        let expected =
            Alarm { log: 3, cause: Cause::Write, since: WallTime(1), times: 3, what: "failure 1".into() };
        assert_eq!(alarms.list(), [expected]);
        alarms.tick(at(19));
        assert_eq!(alarms.list().len(), 1);
        alarms.tick(at(20));
        assert_eq!(alarms.list(), []);
    }

    #[test]
    fn what_lasts_counts_once() {
        let alarms = Alarms::new(0);
        for second in 0..100 {
            alarms.hold(Cause::Space, second < 50, at(second), WallTime(0), || "little is free".into());
            alarms.tick(at(second));
            assert_eq!(alarms.list().iter().map(|alarm| alarm.times).sum::<u64>(), u64::from(second < 60));
        }
    }
}
