//! Tests of the whole log on the test host.

mod behaviour;
mod crash;
mod faults;
mod scanning;

use crate::testing::{Disk, TestHost};
use crate::{Limits, Log, OutcomeRecord, Place, RecipientState, Recovered};
use host::Host;
use mail::{Address, BodyType, Envelope, MessageId, WallTime};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

pub(crate) fn limits() -> Limits {
    Limits { segment_bytes: SEGMENT_BYTES, group_bytes_max: 16 << 10, spares_max: 2, ..Limits::default() }
}

pub(crate) fn directory() -> PathBuf {
    PathBuf::from("spool/shard-3")
}

pub(crate) async fn open(host: &TestHost, limits: Limits) -> (Log<TestHost>, Recovered) {
    Log::open(host.clone(), directory(), 3, limits).await.unwrap()
}

/// A host with a new log.
pub(crate) fn fresh(seed: u64) -> (TestHost, Log<TestHost>) {
    let host = TestHost::new(seed, Disk::default());
    let opening = host.clone();
    let (log, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    assert!(recovered.messages.is_empty() && recovered.newest.is_none());
    (host, log)
}

/// An envelope that differs from message to message.
pub(crate) fn envelope(id: MessageId) -> Envelope {
    let recipients = (0..1 + id.0 % 3).map(|n| address(&format!("to{n}.{}@example.org", id.0))).collect();
    let sender = (!id.0.is_multiple_of(5)).then(|| address(&format!("from{}@example.com", id.0)));
    let body = if id.0.is_multiple_of(2) { BodyType::EightBit } else { BodyType::SevenBit };
    Envelope { sender, recipients, body, utf8: id.0.is_multiple_of(7), ..Envelope::default() }
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text, true).unwrap()
}

/// Content that differs from message to message.
pub(crate) fn content(id: MessageId, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(id.0).fill(&mut content);
    content
}

pub(crate) fn outcome(host: &TestHost, id: MessageId, states: &[(u16, RecipientState)]) -> OutcomeRecord {
    OutcomeRecord { id, at: host.wall(), recipients: states.to_vec() }
}

/// A final outcome for all recipients.
pub(crate) fn finished(host: &TestHost, id: MessageId) -> OutcomeRecord {
    let count = envelope(id).recipients.len() as u16;
    outcome(host, id, &(0..count).map(|n| (n, RecipientState::Delivered)).collect::<Vec<_>>())
}

pub(crate) fn append(
    host: &TestHost,
    log: &Log<TestHost>,
    id: u64,
    bytes: usize,
) -> Result<Place, crate::AppendError> {
    let log = log.clone();
    let run = async move { store(&log, MessageId(id), bytes).await };
    host.run(run).expect("the append ends")
}

pub(crate) async fn store(
    log: &Log<TestHost>,
    id: MessageId,
    bytes: usize,
) -> Result<Place, crate::AppendError> {
    log.append_message(id, WallTime(id.0), &envelope(id), &content(id, bytes)).await
}

pub(crate) fn flush(host: &TestHost, log: &Log<TestHost>) -> Result<(), crate::AppendError> {
    let log = log.clone();
    host.run(async move { log.flush().await }).expect("the flush ends")
}

/// Takes the power away and starts again.
pub(crate) fn restart(host: &TestHost, seed: u64) -> (TestHost, Log<TestHost>, Recovered) {
    let host = TestHost::new(seed, host.disk().after_crash(seed));
    let opening = host.clone();
    let (log, recovered) = host.run(async move { open(&opening, limits()).await }).unwrap();
    (host, log, recovered)
}

pub(crate) fn ids(recovered: &Recovered) -> Vec<u64> {
    recovered.messages.iter().map(|m| m.id.0).collect()
}

/// Longer than any delay in the log.
pub(crate) const LONG: u64 = Duration::from_secs(3).as_millis() as u64;
