//! What becomes of a log whose disk or code fails: it heals by itself, tells once, and hangs nobody up.

use super::*;
use crate::alarm::Cause;
use crate::{AppendError, LogState};
use host::Planted;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn causes(log: &Log<TestHost>) -> Vec<(Cause, u64)> {
    log.alarms().list().iter().map(|alarm| (alarm.cause, alarm.times)).collect()
}

#[test]
fn a_failed_log_heals_although_nobody_wants_anything_of_it() {
    let (host, log) = fresh(40);
    host.disk().fail_writes.set(8);
    for id in 1..3 {
        append(&host, &log, id, 300).unwrap_err();
    }
    host.pass(10);
    assert_eq!(log.state(), LogState::Failed);
    host.pass(20_000);
    assert_eq!(log.state(), LogState::Ready);
    assert_eq!(causes(&log), [(Cause::Write, 8)], "one alarm, however often it fails");
    log.alarms().tick(host.now());
    host.pass(10_000);
    log.alarms().tick(host.now());
    assert_eq!(causes(&log), []);
    append(&host, &log, 9, 300).unwrap();
    let (_, _, recovered) = restart(&host, 41);
    assert_eq!((ids(&recovered), recovered.damaged), (vec![9], vec![]), "an empty group is no damage");
}

#[test]
fn a_log_that_heals_takes_few_writes_while_its_disk_is_broken() {
    let (host, log) = fresh(42);
    host.disk().fail_writes.set(u32::MAX);
    append(&host, &log, 1, 300).unwrap_err();
    append(&host, &log, 2, 300).unwrap_err();
    let before = host.disk().writes.borrow().len();
    host.pass(10_000);
    let tried = host.disk().writes.borrow().len() - before;
    assert!((5..=12).contains(&tried), "{tried} writes in ten seconds");
    host.disk().capacity.set(Some(0));
    host.pass(10_000);
    let closing = log.clone();
    host.run(async move { closing.close().await }).expect("close ends");
}

#[test]
fn a_full_disk_is_one_alarm_that_ends_with_room() {
    let (host, log) = fresh(43);
    host.disk().capacity.set(Some(SEGMENT_BYTES));
    (1..1000).find(|id| append(&host, &log, *id, 3000).is_err()).expect("it is full some time");
    host.pass(5_000);
    assert_eq!((log.state(), causes(&log).len()), (LogState::Full, 1));
    assert_eq!(causes(&log)[0].0, Cause::Full);
    host.disk().capacity.set(None);
    host.pass(1_100);
    assert_eq!(log.state(), LogState::Ready);
    host.pass(10_000);
    log.alarms().tick(host.now());
    assert_eq!(causes(&log), []);
}

#[test]
fn a_committer_that_panics_takes_the_log_down_and_hangs_nobody_up() {
    let (host, log) = fresh(44);
    append(&host, &log, 1, 300).unwrap();
    host.plant(Planted::CommitterPanics);
    let panicked = catch_unwind(AssertUnwindSafe(|| append(&host, &log, 2, 300)));
    assert!(panicked.is_err(), "the test host passes a panic on");
    assert_eq!((log.state(), causes(&log)), (LogState::Fallen, vec![(Cause::Panic, 1)]));
    assert!(append(&host, &log, 3, 300).is_err());
    assert_eq!(flush(&host, &log), Err(AppendError::Closed));
    let closing = log.clone();
    host.run(async move { closing.close().await }).expect("close ends");
    assert_eq!(ids(&restart(&host, 45).2)[0], 1, "the second one was written, but nobody was told so");
}

#[test]
fn damaged_segments_are_kept_within_their_bounds() {
    let disk = Disk::default();
    for number in 1..=9 {
        disk.tamper(&format!("spool/shard-3/{number:08}.damaged"), |bytes| bytes.resize(100, 0xee));
    }
    let host = TestHost::new(46, disk);
    let opening = host.clone();
    let limits = Limits { damaged_max: 6, damaged_bytes_max: 400, ..limits() };
    let (log, _) = host.run(async move { open(&opening, limits).await }).unwrap();
    host.pass(LONG);
    assert_eq!(log.stats().damaged, 4);
    let names: Vec<String> = host.disk().files().into_iter().map(|(name, _)| name).collect();
    let kept: Vec<&String> = names.iter().filter(|name| name.ends_with(".damaged")).collect();
    assert_eq!(kept.len(), 4);
    assert!(kept[0].ends_with("00000006.damaged"), "the newest are kept: {kept:?}");
}

#[test]
fn a_segment_that_cannot_be_opened_is_set_aside_and_the_others_are_read() {
    let (host, log) = fresh(47);
    let first = append(&host, &log, 1, 300).unwrap();
    let later = (2..100).map(|id| (id, append(&host, &log, id, 3000).unwrap()));
    let (second, _) = later.into_iter().find(|(_, place)| place.segment != first.segment).unwrap();
    let path = format!("spool/shard-3/{:08}.seg", first.segment);
    let disk = host.disk().after_crash(1);
    disk.fail_open.replace(Some(path.clone().into()));
    let host = TestHost::new(48, disk);
    let opening = host.clone();
    let (_, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    assert_eq!(ids(&recovered), [second]);
    assert_eq!(recovered.damaged.len(), 1);
    let names: Vec<String> = host.disk().files().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&path.replace(".seg", ".damaged")) && !names.contains(&path), "{names:?}");
}

#[test]
fn a_segment_that_is_to_be_kept_is_set_aside_when_it_is_free() {
    let (host, log) = fresh(49);
    let place = append(&host, &log, 1, 300).unwrap();
    log.keep(place);
    for id in 2..40 {
        let place = append(&host, &log, id, 3000).unwrap();
        log.append_outcome(place, &finished(&host, MessageId(id)));
        log.retire(MessageId(id), place);
    }
    log.append_outcome(place, &finished(&host, MessageId(1)));
    log.retire(MessageId(1), place);
    flush(&host, &log).unwrap();
    host.pass(LONG);
    let names: Vec<String> = host.disk().files().into_iter().map(|(name, _)| name).collect();
    let path = format!("spool/shard-3/{:08}.damaged", place.segment);
    assert!(names.contains(&path), "{names:?}");
    assert_eq!(log.stats().damaged, 1);
}
