//! The power goes off at every point of a workload with deletion and reuse going on, several times in a row.

use super::*;
use crate::Reader;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What the world outside knows of a message.
#[derive(Clone, Debug)]
enum Known {
    /// No answer yet, so that it may be there or not.
    Asked,
    /// It was refused, and may come back after a restart until an outcome says otherwise.
    Refused,
    /// It was accepted.
    Accepted { place: Place, recipients: Vec<Recipient> },
    /// Nothing may bring it back.
    Gone,
}

/// What was said of a recipient, and what of it is certain to be durable.
#[derive(Clone, Debug)]
struct Recipient {
    said: RecipientState,
    durable: RecipientState,
}

const NEVER_TRIED: RecipientState = RecipientState::Waiting { attempts: 0, next: WallTime(0) };

#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, (usize, Known)>,
    last: u64,
}

type Shared = Rc<RefCell<Model>>;

fn new_id(model: &Shared, bytes: usize) -> MessageId {
    let mut model = model.borrow_mut();
    model.last += 1;
    let id = model.last;
    model.messages.insert(id, (bytes, Known::Asked));
    MessageId(id)
}

async fn append_one(host: &TestHost, log: &Log<TestHost>, model: &Shared) {
    let bytes = host.below(6000);
    let id = new_id(model, bytes);
    let known = match store(log, id, bytes).await {
        Ok(place) => {
            let recipient = Recipient { said: NEVER_TRIED, durable: NEVER_TRIED };
            Known::Accepted { place, recipients: vec![recipient; envelope(id).recipients.len()] }
        }
        Err(_) => Known::Refused,
    };
    model.borrow_mut().messages.insert(id.0, (bytes, known));
}

/// Says something new of some accepted messages, mostly that they are done.
fn settle_some(host: &TestHost, log: &Log<TestHost>, model: &Shared, percent: u32) {
    for (id, (_, known)) in &mut model.borrow_mut().messages {
        let Known::Accepted { place, recipients } = known else { continue };
        let is_done = |recipients: &[Recipient]| recipients.iter().all(|r| r.said.is_final());
        if is_done(recipients) || !host.chance(percent) {
            continue;
        }
        let mut states = Vec::new();
        for (index, recipient) in recipients.iter_mut().enumerate().filter(|(_, r)| !r.said.is_final()) {
            let RecipientState::Waiting { attempts, .. } = recipient.said else { continue };
            recipient.said = match host.below(6) {
                0 => RecipientState::Waiting { attempts: attempts + 1, next: WallTime(*id) },
                1 => RecipientState::Failed,
                2 => RecipientState::Expired,
                _ => RecipientState::Delivered,
            };
            states.push((index as u16, recipient.said));
        }
        log.append_outcome(*place, &outcome(host, MessageId(*id), &states));
        if is_done(recipients) {
            log.retire(MessageId(*id), *place);
        }
    }
}

/// Flushes; what had been said before is durable then.
async fn flush_model(log: &Log<TestHost>, model: &Shared) {
    let before = model.borrow().messages.clone();
    if log.flush().await.is_err() {
        return;
    }
    for (id, (_, known)) in before {
        let mut model = model.borrow_mut();
        let Some((_, now)) = model.messages.get_mut(&id) else { continue };
        match (known, &mut *now) {
            (Known::Refused, _) => *now = Known::Gone,
            (Known::Accepted { recipients: then, .. }, Known::Accepted { recipients, .. }) => {
                recipients.iter_mut().zip(&then).for_each(|(recipient, then)| recipient.durable = then.said);
                if then.iter().all(|r| r.said.is_final()) {
                    *now = Known::Gone;
                }
            }
            _ => {}
        }
    }
}

/// Three senders, an engine that settles, and one that flushes.
async fn work(host: TestHost, log: Log<TestHost>, model: Shared, rounds: usize) {
    let left = Rc::new(std::cell::Cell::new(3));
    for _ in 0..3 {
        let (host, log, model, left) = (host.clone(), log.clone(), Rc::clone(&model), Rc::clone(&left));
        host.clone().spawn(async move {
            for _ in 0..rounds {
                append_one(&host, &log, &model).await;
            }
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        settle_some(&host, &log, &model, 40);
        if host.chance(30) {
            flush_model(&log, &model).await;
        }
        host.sleep_until(host.now() + Duration::from_micros(700)).await;
    }
}

/// Compares what came back with what is known, and takes over what came back.
fn check(host: &TestHost, recovered: &Recovered, model: &Shared, log: &Log<TestHost>, context: &str) {
    assert!(recovered.damaged.is_empty(), "{context}: {:?}", recovered.damaged);
    let mut model = model.borrow_mut();
    let mut back: BTreeMap<u64, _> = recovered.messages.iter().map(|m| (m.id.0, m)).collect();
    assert_eq!(back.len(), recovered.messages.len(), "{context}: twice");
    assert_eq!(log.stats().live_messages, back.len() as u64, "{context}");
    for (id, (bytes, known)) in &mut model.messages {
        let found = back.remove(id);
        match (&*known, found) {
            (Known::Gone, None) | (Known::Asked | Known::Refused, None) => *known = Known::Gone,
            (Known::Gone, Some(_)) => panic!("{context}: {id} came back"),
            (Known::Accepted { recipients, .. }, None) => {
                assert!(
                    recipients.iter().all(|r| r.said.is_final()),
                    "{context}: {id} is lost: {recipients:?}"
                );
                *known = Known::Gone;
            }
            (Known::Asked | Known::Refused | Known::Accepted { .. }, Some(message)) => {
                *known = take_over(host, *id, *bytes, known, message, context);
            }
        }
    }
    assert!(back.is_empty(), "{context}: never asked for {back:?}");
}

fn take_over(
    host: &TestHost,
    id: u64,
    bytes: usize,
    known: &Known,
    message: &crate::RecoveredMessage,
    context: &str,
) -> Known {
    let (reader, place) = (Reader::new(host.clone(), "spool".into()), message.place);
    let stored = host.run(async move { reader.read(place).await }).unwrap().unwrap();
    let expected = envelope(MessageId(id));
    assert_eq!((stored.id.0, &stored.envelope), (id, &expected), "{context}");
    assert_eq!(stored.content, content(MessageId(id), bytes), "{context}");
    assert_eq!(
        (&message.sender, message.body, message.utf8),
        (&expected.sender, expected.body, expected.utf8)
    );
    if let Known::Accepted { place, .. } = known {
        assert_eq!(*place, message.place, "{context}");
    }
    let mut now = vec![
        Recipient { said: RecipientState::Delivered, durable: RecipientState::Delivered };
        expected.recipients.len()
    ];
    for recipient in &message.recipients {
        let index = usize::from(recipient.index);
        assert_eq!(recipient.address, expected.recipients[index], "{context}");
        let next = if recipient.attempts == 0 { WallTime(0) } else { recipient.next };
        let state = RecipientState::Waiting { attempts: recipient.attempts, next };
        now[index] = Recipient { said: state, durable: state };
    }
    if let Known::Accepted { recipients, .. } = known {
        for (now, known) in now.iter().zip(recipients) {
            let attempts = |state: RecipientState| match state {
                RecipientState::Waiting { attempts, .. } => u32::from(attempts),
                _ => u32::MAX,
            };
            let range = attempts(known.durable)..=attempts(known.said);
            assert!(range.contains(&attempts(now.said)), "{context}: {id} is {now:?}, known is {known:?}");
        }
    }
    Known::Accepted { place: message.place, recipients: now }
}

fn boot(host: &TestHost) -> Option<(Log<TestHost>, Recovered)> {
    let opening = host.clone();
    host.run(async move { open(&opening, limits()).await })
}

/// One world: the first power loss at `point` (none when it is zero), two more at random points, then a quiet end.
/// Returns the number of points of the first life.
fn world(seed: u64, point: u64, fail_writes: bool) -> u64 {
    let model = Shared::default();
    let mut random = fastrand::Rng::with_seed(seed ^ point << 32);
    let mut disk = Disk::default();
    let mut first_points = 0;
    for life in 0..4 {
        let context = format!("seed {seed}, point {point}, life {life}");
        let host = TestHost::new(random.u64(..), disk);
        match life {
            0 if point > 0 => host.disk().power_off_at(point),
            1 | 2 => host.disk().power_off_at(random.u64(1..300)),
            _ => {}
        }
        if let Some((log, recovered)) = boot(&host) {
            host.disk().with_power(|| check(&host, &recovered, &model, &log, &context));
            if fail_writes {
                let (host, end) = (host.clone(), random.u64(1..40));
                host.clone().spawn(async move {
                    host.sleep_until(host.now() + Duration::from_millis(end)).await;
                    host.disk().fail_writes.set(1 + host.below(2) as u32);
                });
            }
            host.run(work(host.clone(), log.clone(), Rc::clone(&model), 24));
            if life == 3 {
                wind_up(&host, &log, &model, &context);
            }
        }
        if life == 0 {
            first_points = host.disk().points();
        }
        disk = host.disk().after_crash(random.u64(..));
    }
    let host = TestHost::new(1, disk);
    let (_, recovered) = boot(&host).unwrap();
    assert!(recovered.messages.is_empty());
    first_points
}

/// Settles everything: all space comes back.
fn wind_up(host: &TestHost, log: &Log<TestHost>, model: &Shared, context: &str) {
    host.pass(LONG);
    for _ in 0..40 {
        settle_some(host, log, model, 100);
        let (log, model) = (log.clone(), Rc::clone(model));
        host.run(async move { flush_model(&log, &model).await });
        host.pass(100);
    }
    host.pass(LONG);
    let left: Vec<_> = model
        .borrow()
        .messages
        .iter()
        .filter(|(_, (_, k))| !matches!(k, Known::Gone))
        .map(|(id, _)| *id)
        .collect();
    assert!(left.is_empty(), "{context}: {left:?}");
    let stats = log.stats();
    assert!(stats.live_messages == 0 && stats.segments <= 2, "{context}: {stats:?}");
    assert!(host.disk().files().len() <= 4, "{context}: {:?}", host.disk().files());
}

#[test]
fn the_power_goes_off_at_every_point() {
    for seed in [1, 2] {
        let points = world(seed, 0, false);
        assert!(points > 100, "{points} points are too few to mean something");
        (1..=points).for_each(|point| {
            world(seed, point, false);
        });
    }
}

#[test]
fn the_power_goes_off_while_writes_fail() {
    (0..200).for_each(|seed| {
        world(1000 + seed, 1 + seed * 37 % 290, true);
    });
}
