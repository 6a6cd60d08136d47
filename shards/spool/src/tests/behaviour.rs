//! What the log promises while the power stays on, and when the disk does not do what it should.

use super::*;
use crate::recover::DamageKind;
use crate::{AppendError, LogState, OpenError, ReadError, Reader};
use host::Planted;
use std::cell::Cell;
use std::rc::Rc;

fn append_outcome(log: &Log<TestHost>, place: Place, outcome: OutcomeRecord) {
    log.append_outcome(place, &outcome);
}

/// Appends `count` messages at once and returns the results in order.
fn append_all(
    host: &TestHost,
    log: &Log<TestHost>,
    first: u64,
    count: u64,
    bytes: usize,
) -> Vec<Result<Place, AppendError>> {
    let results = Rc::new(std::cell::RefCell::new(vec![None; count as usize]));
    for n in 0..count {
        let (log, results) = (log.clone(), Rc::clone(&results));
        host.spawn(async move {
            let result = store(&log, MessageId(first + n), bytes).await;
            results.borrow_mut()[n as usize] = Some(result);
        });
    }
    host.pass(LONG);
    results.take().into_iter().map(|result| result.expect("each append ends")).collect()
}

fn finish(host: &TestHost, log: &Log<TestHost>, id: u64, place: Place) {
    append_outcome(log, place, finished(host, MessageId(id)));
    log.retire(MessageId(id), place);
}

#[test]
fn a_message_is_read_back_as_it_was_stored() {
    let (host, log) = fresh(1);
    let reader = Rc::new(Reader::new(host.clone(), "spool".into()));
    for (id, bytes) in [(1, 0), (2, 1), (3, 4096), (4, 20_000)] {
        let place = append(&host, &log, id, bytes).unwrap();
        assert_eq!(place.log, 3);
        for _ in 0..2 {
            let reader = Rc::clone(&reader);
            let stored = host.run(async move { reader.read(place).await }).unwrap().unwrap();
            assert_eq!((stored.id, stored.accepted), (MessageId(id), WallTime(id)));
            assert_eq!(stored.envelope, envelope(MessageId(id)));
            assert_eq!(stored.content, content(MessageId(id), bytes));
            assert!(stored.content.capacity() >= stored.content.len() + 8);
        }
        let mut wrong = place;
        wrong.offset += 8;
        let reader = Rc::clone(&reader);
        let read = host.run(async move { reader.read(wrong).await }).unwrap();
        assert!(matches!(read, Err(ReadError::Damaged(place)) if place == wrong));
    }
    let reader = Rc::new(Reader::new(host.clone(), "spool".into()));
    let gone = Place { log: 4, segment: 1, offset: 4096, length: 100 };
    let read = host.run(async move { reader.read(gone).await }).unwrap();
    assert!(matches!(read, Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn appends_that_wait_go_out_in_one_write() {
    let (host, log) = fresh(2);
    let results = append_all(&host, &log, 1, 21, 300);
    assert!(results.iter().all(Result::is_ok));
    let writes = host.disk().writes.borrow().len();
    assert!((1..=2).contains(&writes), "{writes} writes for 21 appends");
    let stats = log.stats();
    assert_eq!((stats.messages, stats.commits, stats.live_messages), (21, writes as u64, 21));
    assert_eq!(stats.group_bytes, host.disk().writes.borrow().iter().sum::<usize>() as u64);
}

#[test]
fn a_lone_message_waits_for_nothing_but_its_write() {
    let (host, log) = fresh(3);
    host.pass(LONG);
    let before = host.now();
    append(&host, &log, 1, 300).unwrap();
    assert_eq!(host.now().since(before), Duration::from_micros(500));
}

#[test]
fn a_group_takes_no_more_than_its_bound_and_the_order_of_arrival_holds() {
    let (host, log) = fresh(4);
    let places: Vec<_> = append_all(&host, &log, 1, 40, 3000).into_iter().map(Result::unwrap).collect();
    assert!(host.disk().writes.borrow().iter().all(|bytes| *bytes <= limits().group_bytes_max));
    let stats = log.stats();
    assert_eq!(stats.messages, 40);
    let mut unique: Vec<_> = places.iter().map(|place| (place.segment, place.offset)).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 40);
}

#[test]
fn outcomes_ride_with_the_next_message_or_wait_for_their_delay() {
    let (host, log) = fresh(5);
    let place = append(&host, &log, 1, 300).unwrap();
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(0, RecipientState::Delivered)]));
    append(&host, &log, 2, 300).unwrap();
    let stats = log.stats();
    assert_eq!((stats.commits, stats.outcomes, stats.outcome_bytes_pending), (2, 1, 0));
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(1, RecipientState::Delivered)]));
    host.pass(49);
    assert_eq!(log.stats().commits, 2);
    host.pass(2);
    assert_eq!((log.stats().commits, log.stats().outcomes), (3, 2));
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(1, RecipientState::Delivered)]));
    let before = host.now();
    flush(&host, &log).unwrap();
    assert_eq!(log.stats().outcomes, 3);
    assert!(host.now().since(before) < Duration::from_millis(2), "a flush does not wait for the delay");
}

#[test]
fn recipients_come_back_in_their_last_state() {
    let (host, log) = fresh(6);
    let place = append(&host, &log, 5, 300).unwrap();
    let next = WallTime(77);
    let waiting = |attempts| RecipientState::Waiting { attempts, next };
    append_outcome(
        &log,
        place,
        outcome(&host, MessageId(5), &[(0, waiting(1)), (1, RecipientState::Failed)]),
    );
    append_outcome(
        &log,
        place,
        outcome(&host, MessageId(5), &[(0, waiting(2)), (1, waiting(9)), (60_000, waiting(1))]),
    );
    flush(&host, &log).unwrap();
    let (_, _, recovered) = restart(&host, 1);
    let message = &recovered.messages[0];
    assert_eq!((message.id, message.place, message.accepted), (MessageId(5), place, WallTime(5)));
    let expected = envelope(MessageId(5));
    assert_eq!(
        (&message.sender, message.body, message.utf8),
        (&expected.sender, expected.body, expected.utf8)
    );
    let read: Vec<_> = message.recipients.iter().map(|r| (r.index, &r.address, r.attempts, r.next)).collect();
    assert_eq!(read, [(0, &expected.recipients[0], 2, next), (2, &expected.recipients[2], 0, WallTime(5))]);
    assert_eq!((recovered.newest, message.content_bytes), (Some(MessageId(5)), 300));
}

#[test]
fn segments_come_back_as_spares_and_nothing_returns() {
    let (host, log) = fresh(7);
    for round in 0..60 {
        let places = append_all(&host, &log, round * 20 + 1, 20, 1000);
        for (n, place) in places.into_iter().enumerate() {
            finish(&host, &log, round * 20 + 1 + n as u64, place.unwrap());
        }
    }
    flush(&host, &log).unwrap();
    host.pass(LONG);
    let stats = log.stats();
    assert!(stats.live_messages == 0 && (1..=2).contains(&stats.spares), "{stats:?}");
    assert!(stats.segments <= 2, "{} segments", stats.segments);
    assert!(host.disk().files().len() <= 4, "{:?}", host.disk().files());
    let (_, _, recovered) = restart(&host, 2);
    assert_eq!((ids(&recovered), recovered.damaged), (vec![], vec![]));
    assert!(recovered.newest >= Some(MessageId(1200)));
}

#[test]
fn one_live_message_keeps_what_keeps_it_from_growing_back() {
    let (host, log) = fresh(8);
    let kept = append(&host, &log, 1, 300).unwrap();
    for id in 2..200 {
        let place = append(&host, &log, id, 3000).unwrap();
        finish(&host, &log, id, place);
    }
    flush(&host, &log).unwrap();
    host.pass(LONG);
    assert!(log.stats().segments > 5, "outcomes chain the segments to the first one");
    let (host, log, recovered) = restart(&host, 3);
    assert_eq!(ids(&recovered), [1]);
    finish(&host, &log, 1, kept);
    flush(&host, &log).unwrap();
    host.pass(LONG);
    assert!(log.stats().segments <= 2);
    assert_eq!(ids(&restart(&host, 4).2), []);
}

#[test]
fn a_failed_write_costs_its_group_and_its_segment_only() {
    let (host, log) = fresh(9);
    let first = append(&host, &log, 1, 300).unwrap();
    append_outcome(&log, first, outcome(&host, MessageId(1), &[(0, RecipientState::Delivered)]));
    host.disk().fail_writes.set(1);
    assert_eq!(append(&host, &log, 2, 9000), Err(AppendError::Failed));
    assert_eq!(log.stats().state, LogState::Ready);
    let third = append(&host, &log, 3, 300).unwrap();
    assert_ne!(third.segment, first.segment);
    flush(&host, &log).unwrap();
    let stats = log.stats();
    assert_eq!((stats.failed_segments, stats.live_messages, stats.outcome_bytes_pending), (1, 2, 0));
    let (host, log, recovered) = restart(&host, 5);
    assert_eq!(ids(&recovered), [1, 3], "the refused message does not come back");
    assert_eq!(recovered.messages[0].recipients.len(), 1, "the outcome was kept");
    finish(&host, &log, 1, first);
    finish(&host, &log, 3, third);
    flush(&host, &log).unwrap();
    host.pass(LONG);
    assert!(log.stats().segments <= 2);
}

#[test]
fn a_failed_segment_is_removed_not_reused() {
    let (host, log) = fresh(10);
    let place = append(&host, &log, 1, 300).unwrap();
    host.disk().fail_writes.set(1);
    append(&host, &log, 2, 300).unwrap_err();
    finish(&host, &log, 1, place);
    flush(&host, &log).unwrap();
    host.pass(LONG);
    assert_eq!((log.stats().spares, log.stats().segments), (0, 2));
}

#[test]
fn two_failed_writes_stop_the_log_until_the_disk_recovers() {
    let (host, log) = fresh(11);
    let place = append(&host, &log, 1, 300).unwrap();
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(0, RecipientState::Delivered)]));
    host.disk().fail_writes.set(2);
    assert_eq!(append(&host, &log, 2, 300), Err(AppendError::Failed));
    host.pass(10);
    assert_eq!(log.stats().state, LogState::Failed);
    let writes = host.disk().writes.borrow().len();
    assert_eq!(append(&host, &log, 3, 300), Err(AppendError::Failed));
    assert_eq!(flush(&host, &log), Err(AppendError::Failed));
    assert_eq!(host.disk().writes.borrow().len(), writes, "refused at once");
    assert!(log.stats().outcome_bytes_pending > 0);
    host.pass(1100);
    assert_eq!((log.stats().state, log.stats().outcome_bytes_pending), (LogState::Ready, 0));
    append(&host, &log, 4, 300).unwrap();
    let (_, _, recovered) = restart(&host, 6);
    assert_eq!(ids(&recovered), [1, 4]);
    assert_eq!(recovered.messages[0].recipients.len(), 1);
}

#[test]
fn a_disk_that_stays_broken_is_tried_at_intervals_only() {
    let (host, log) = fresh(12);
    let place = append(&host, &log, 1, 300).unwrap();
    host.disk().fail_writes.set(u32::MAX);
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(0, RecipientState::Delivered)]));
    let before = host.disk().writes.borrow().len();
    host.pass(10_000);
    let tried = host.disk().writes.borrow().len() - before;
    assert!((5..=12).contains(&tried), "{tried} writes in ten seconds");
    assert!(log.stats().segments < 5, "failed segments do not pile up");
    host.disk().fail_writes.set(0);
    host.pass(1100);
    flush(&host, &log).unwrap();
    assert_eq!(restart(&host, 7).2.messages[0].recipients.len(), 1);
}

#[test]
fn on_a_full_disk_messages_are_refused_and_outcomes_are_not() {
    let (host, log) = fresh(13);
    host.disk().capacity.set(Some(2 * SEGMENT_BYTES));
    let mut places = Vec::new();
    let error = (1..1000).find_map(|id| match append(&host, &log, id, 3000) {
        Ok(place) => {
            places.push((id, place));
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(error, Some(AppendError::Full));
    host.pass(10);
    assert_eq!(log.stats().state, LogState::Full);
    let (first, rest) = places.split_first().unwrap();
    append_outcome(&log, first.1, outcome(&host, MessageId(first.0), &[(0, RecipientState::Delivered)]));
    flush(&host, &log).unwrap();
    assert_eq!(restart(&host, 8).2.messages[0].recipients.len(), 1, "recorded although the disk is full");
    for (id, place) in std::iter::once(first).chain(rest) {
        finish(&host, &log, *id, *place);
    }
    host.pass(LONG);
    assert_eq!(log.stats().state, LogState::Ready, "finished messages make room");
    append(&host, &log, 2000, 300).unwrap();
}

#[test]
fn a_full_disk_keeps_no_log_from_opening() {
    let (host, log) = fresh(14);
    let first = append(&host, &log, 1, 300).unwrap();
    let used = (2..20).map(|id| append(&host, &log, id, 12_000).unwrap());
    assert_eq!(used.take_while(|place| place.segment == first.segment).count(), 4);
    let disk = host.disk().after_crash(1);
    disk.capacity.set(Some(0));
    let host = TestHost::new(15, disk);
    let opening = host.clone();
    let (log, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    assert_eq!((ids(&recovered), log.stats().state), ((1..7).collect(), LogState::Full));
    assert_eq!(append(&host, &log, 30, 300), Err(AppendError::Full));
    append_outcome(&log, recovered.messages[0].place, finished(&host, MessageId(1)));
    assert_eq!(flush(&host, &log), Err(AppendError::Full));
    log.retire(MessageId(1), recovered.messages[0].place);
    recovered.messages[1..].iter().for_each(|message| finish(&host, &log, message.id.0, message.place));
    host.pass(LONG);
    assert_eq!((log.stats().state, log.stats().outcome_bytes_pending), (LogState::Ready, 0));
    append(&host, &log, 30, 300).unwrap();
    assert_eq!(ids(&restart(&host, 9).2), [30]);
}

#[test]
fn what_no_segment_takes_is_too_large() {
    let (host, log) = fresh(16);
    let room = limits().group_room() - crate::record::GROUP_BYTES;
    let head = crate::record::message_bytes(&envelope(MessageId(1)), 0);
    let largest = room - head;
    assert_eq!(append(&host, &log, 1, largest + 8), Err(AppendError::TooLarge));
    for id in [1, 4, 7] {
        append(&host, &log, id, largest - 16).unwrap();
    }
    let mut grown = envelope(MessageId(1));
    grown.recipients.push(address(&format!("a@{}", "\u{23a}".repeat(30))));
    let appending = log.clone();
    let result =
        host.run(async move { appending.append_message(MessageId(9), WallTime(0), &grown, b"").await });
    assert_eq!(result, Some(Err(AppendError::TooLarge)));
    assert_eq!(log.stats().refused, 2);
}

#[test]
fn too_much_waiting_is_busy_and_passes() {
    let host = TestHost::new(17, Disk::default());
    let opening = host.clone();
    let limits = Limits { pending_bytes_max: 24 << 10, ..limits() };
    let (log, _) = host.run(async move { open(&opening, limits).await }).unwrap();
    let results = append_all(&host, &log, 1, 60, 1000);
    let busy = results.iter().filter(|result| **result == Err(AppendError::Busy)).count();
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert!(busy > 0 && stored >= 20 && busy + stored == 60, "{busy} busy, {stored} stored");
    append(&host, &log, 100, 1000).unwrap();
}

#[test]
fn waiting_outcomes_are_forgotten_beyond_their_bound_and_final_ones_are_not() {
    let host = TestHost::new(18, Disk::default());
    let opening = host.clone();
    let limits = Limits { outcome_bytes_max: 1000, ..limits() };
    let (log, _) = host.run(async move { open(&opening, limits).await }).unwrap();
    let place = append(&host, &log, 1, 300).unwrap();
    let waiting = RecipientState::Waiting { attempts: 1, next: WallTime(0) };
    (0..100).for_each(|_| append_outcome(&log, place, outcome(&host, MessageId(1), &[(0, waiting)])));
    append_outcome(&log, place, finished(&host, MessageId(1)));
    flush(&host, &log).unwrap();
    let stats = log.stats();
    assert!(stats.outcomes_dropped > 80 && stats.outcomes + stats.outcomes_dropped == 101);
    assert_eq!(ids(&restart(&host, 10).2), []);
}

#[test]
fn closing_writes_what_is_there_and_ends_the_tasks() {
    let (host, log) = fresh(19);
    let place = append(&host, &log, 1, 300).unwrap();
    append_outcome(&log, place, outcome(&host, MessageId(1), &[(0, RecipientState::Delivered)]));
    let stored = Rc::new(Cell::new(None));
    let (appending, slot) = (log.clone(), Rc::clone(&stored));
    let closing = log.clone();
    host.run(async move {
        slot.set(Some(store(&appending, MessageId(2), 300).await.is_ok()));
        closing.close().await;
    })
    .expect("close ends");
    assert_eq!(stored.get(), Some(true));
    assert_eq!(append(&host, &log, 3, 300), Err(AppendError::Closed));
    assert_eq!(flush(&host, &log), Err(AppendError::Closed));
    assert_eq!(log.stats().state, LogState::Closed);
    let again = log.clone();
    host.run(async move { again.close().await }).expect("closing twice is fine");
    let (_, _, recovered) = restart(&host, 11);
    assert_eq!(ids(&recovered), [1, 2]);
    assert_eq!(recovered.messages[0].recipients.len(), 1);
}

#[test]
fn closing_ends_even_when_the_disk_is_broken_or_full() {
    for full in [false, true] {
        let (host, log) = fresh(20);
        let place = append(&host, &log, 1, 300).unwrap();
        host.disk().fail_writes.set(u32::MAX);
        host.disk().capacity.set(full.then_some(0));
        append_outcome(&log, place, finished(&host, MessageId(1)));
        let closing = log.clone();
        host.run(async move { closing.close().await }).expect("close ends");
    }
}

#[test]
fn files_that_cannot_be_renamed_or_removed_are_tried_again() {
    let (host, log) = fresh(21);
    host.disk().fail_others.set(true);
    for id in 1..14 {
        let Ok(place) = append(&host, &log, id, 3000) else { break };
        finish(&host, &log, id, place);
    }
    host.pass(LONG);
    host.disk().fail_others.set(false);
    host.pass(LONG);
    for id in 20..60 {
        let place = append(&host, &log, id, 3000).unwrap();
        finish(&host, &log, id, place);
    }
    flush(&host, &log).unwrap();
    host.pass(LONG);
    assert_eq!((log.stats().live_messages, log.stats().state), (0, LogState::Ready));
    assert!(log.stats().segments <= 2);
}

#[test]
fn damage_is_reported_and_its_file_is_kept() {
    let (host, log) = fresh(22);
    let places: Vec<_> = (1..4).map(|id| append(&host, &log, id, 300).unwrap()).collect();
    let path = format!("spool/shard-3/{:08}.seg", places[0].segment);
    host.disk().tamper(&path, |bytes| bytes[(places[1].offset + places[1].length) as usize - 1] ^= 4);
    let (host, log, recovered) = restart(&host, 12);
    assert_eq!(ids(&recovered), [1, 3]);
    assert_eq!(recovered.damaged.len(), 1);
    assert_eq!(recovered.damaged[0].what, DamageKind::Message(MessageId(2)));
    let reader = Reader::new(host.clone(), "spool".into());
    let place = places[1];
    let read = host.run(async move { reader.read(place).await }).unwrap();
    assert!(matches!(read, Err(ReadError::Damaged(_))));
    finish(&host, &log, 1, places[0]);
    finish(&host, &log, 3, places[2]);
    flush(&host, &log).unwrap();
    host.pass(LONG);
    let names: Vec<_> = host.disk().files().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&path.replace(".seg", ".damaged")) && !names.contains(&path), "{names:?}");
    let (_, _, recovered) = restart(&host, 13);
    assert_eq!((ids(&recovered), recovered.damaged.len()), (vec![], 0));
}

#[test]
fn an_unreadable_piece_is_reported_and_the_log_opens() {
    let (host, log) = fresh(23);
    append(&host, &log, 1, 300).unwrap();
    let disk = host.disk().after_crash(1);
    disk.fail_read_at.set(Some(0));
    let host = TestHost::new(24, disk);
    let opening = host.clone();
    let (log, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    assert_eq!(ids(&recovered), []);
    assert!(
        recovered.damaged.iter().any(|damage| damage.what == DamageKind::Unreadable(SEGMENT_BYTES as u32))
    );
    append(&host, &log, 2, 300).unwrap();
}

#[test]
fn strange_files_are_left_alone_and_spares_of_another_size_are_removed() {
    let disk = Disk::default();
    disk.tamper("spool/shard-3/notes.txt", |bytes| bytes.extend(b"mine"));
    disk.tamper("spool/shard-3/00000008.spare", |bytes| bytes.resize(5, 0));
    disk.tamper("spool/shard-3/00000009.spare", |bytes| bytes.resize(SEGMENT_BYTES as usize, 0xee));
    disk.tamper("spool/shard-3/00000004.seg", |bytes| bytes.resize(70, 0xee));
    let host = TestHost::new(25, disk);
    let opening = host.clone();
    let (log, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    assert_eq!((recovered.messages.len(), recovered.damaged.len()), (0, 0));
    host.pass(LONG);
    let place = append(&host, &log, 1, 300).unwrap();
    assert!(place.segment >= 10, "numbers are above all that were seen");
    let files = host.disk().files();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().any(|(name, _)| name == "spool/shard-3/notes.txt"));
    assert_eq!(ids(&restart(&host, 14).2), [1], "stale bytes of the spare mean nothing");
}

#[test]
fn a_segment_size_that_cannot_be_is_refused() {
    for segment_bytes in [0, 1, 4096, SEGMENT_BYTES + 4096, 1 << 32] {
        let host = TestHost::new(26, Disk::default());
        let limits = Limits { segment_bytes, ..limits() };
        let opening = host.clone();
        let opened = host.run(async move { Log::open(opening, directory(), 3, limits).await.err() }).unwrap();
        assert!(matches!(opened, Some(OpenError::SegmentBytes(bytes)) if bytes == segment_bytes));
    }
}

#[test]
fn the_planted_fault_acknowledges_what_a_crash_loses_and_without_it_nothing_does() {
    for planted in [false, true] {
        let (host, log) = fresh(27);
        append(&host, &log, 1, 300).unwrap();
        host.pass(LONG);
        if planted {
            host.plant(Planted::AckBeforeSync);
        }
        // The second point of a write is in its middle.
        host.disk().power_off_at(2);
        let acknowledged = Rc::new(Cell::new(false));
        let (slot, appending) = (Rc::clone(&acknowledged), log.clone());
        host.spawn(async move { slot.set(store(&appending, MessageId(2), 9000).await.is_ok()) });
        host.pass(LONG);
        assert!(host.disk().is_off());
        assert_eq!(acknowledged.get(), planted);
        assert_eq!(ids(&restart(&host, 15).2), [1]);
    }
}
