//! How the relay is, in JSON.
//!
//! | status | `/health` | `/ready` | |
//! |---|---|---|---|
//! | `ok` | 200 | 200 | all shards take mail, and nothing is wrong |
//! | `degraded` | 503 | 200 | something is wrong, but some shard takes mail |
//! | `failing` | 503 | 503 | no shard takes mail |
//! | `stopping` | 503 | 503 | the relay has been asked to stop |

use jiff::Timestamp;
use serde::Serialize;
use shard::metrics::Snapshot;

/// How the relay as a whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Degraded,
    Failing,
    Stopping,
}

/// What `/health` and `/ready` say.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The whole.
    pub status: Status,
    shards: Vec<Shard>,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: usize,
    /// Whether it has answered in time.
    answers: bool,
    takes_mail: bool,
    alarms: Vec<Alarm>,
}

#[derive(Debug, Serialize)]
struct Alarm {
    log: u16,
    cause: &'static str,
    /// RFC 3339.
    since: String,
    times: u64,
    what: String,
}

impl Report {
    /// The report on so many `shards`, of which those in `snapshots` have answered.
    pub fn new(shards: usize, stopping: bool, snapshots: &[Snapshot]) -> Report {
        let shard = |number| {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.shard == number);
            Shard {
                shard: number,
                answers: snapshot.is_some(),
                takes_mail: snapshot.is_some_and(|snapshot| snapshot.takes_mail),
                alarms: snapshot.map_or(Vec::new(), |s| s.alarms.iter().map(Alarm::new).collect()),
            }
        };
        let shards: Vec<Shard> = (0..shards).map(shard).collect();
        let status = match () {
            () if stopping => Status::Stopping,
            () if shards.iter().all(|shard| shard.takes_mail && shard.alarms.is_empty()) => Status::Ok,
            () if shards.iter().any(|shard| shard.takes_mail) => Status::Degraded,
            () => Status::Failing,
        };
        Report { status, shards }
    }

    /// The report as JSON with a line end.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("names are texts, and nothing in it can fail") + "\n"
    }
}

impl Alarm {
    fn new(alarm: &spool::Alarm) -> Alarm {
        let micros = i64::try_from(alarm.since.0).unwrap_or(i64::MAX);
        Alarm {
            log: alarm.log,
            cause: alarm.cause.name(),
            since: Timestamp::from_microsecond(micros).map_or_else(|_| "?".into(), |at| at.to_string()),
            times: alarm.times,
            what: alarm.what.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::WallTime;

    fn snapshot(shard: usize, takes_mail: bool, alarms: Vec<spool::Alarm>) -> Snapshot {
        let (counters, gauges, latencies) = (Vec::new(), Vec::new(), Vec::new());
        Snapshot { shard, counters, gauges, latencies, takes_mail, alarms }
    }

    fn alarm() -> spool::Alarm {
        let since = WallTime(1_795_566_960_000_000);
        spool::Alarm { log: 1, cause: spool::Cause::Write, since, times: 7, what: "EIO".into() }
    }

    #[test]
    fn the_whole_is_as_its_parts_are() {
        let status = |snapshots: &[Snapshot]| Report::new(2, false, snapshots).status;
        let well = |shard| snapshot(shard, true, Vec::new());
        assert_eq!(status(&[well(0), well(1)]), Status::Ok);
        assert_eq!(status(&[well(0), snapshot(1, true, vec![alarm()])]), Status::Degraded);
        assert_eq!(status(&[well(0), snapshot(1, false, vec![])]), Status::Degraded);
        assert_eq!(status(&[well(1)]), Status::Degraded);
        assert_eq!(status(&[snapshot(0, false, vec![])]), Status::Failing);
        assert_eq!(status(&[]), Status::Failing);
        assert_eq!(Report::new(2, true, &[well(0), well(1)]).status, Status::Stopping);
    }

    #[test]
    fn the_text_lists_shards_causes_and_their_beginning() {
        let report = Report::new(2, false, &[snapshot(1, false, vec![alarm()])]);
        let read: serde_json::Value = serde_json::from_str(&report.text()).unwrap();
        assert_eq!(read["status"], "failing");
        assert_eq!(
            (&read["shards"][0]["answers"], &read["shards"][1]["answers"]),
            (&false.into(), &true.into())
        );
        let alarm = &read["shards"][1]["alarms"][0];
        assert_eq!((&alarm["cause"], &alarm["times"]), (&"write".into(), &7.into()));
        assert_eq!((&alarm["since"], &alarm["what"]), (&"2026-11-25T00:36:00Z".into(), &"EIO".into()));
    }
}
