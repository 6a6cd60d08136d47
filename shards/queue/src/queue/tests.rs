use super::*;

const SECOND: u64 = 1_000_000_000;

fn one(destination: &str, due: u64) -> Vec<NewDelivery> {
    alloc::vec![NewDelivery {
        destination: Arc::from(destination),
        recipients: [0].into_iter().collect(),
        attempts: 0,
        due: Time(due)
    }]
}

fn add(queue: &mut Queue<u32>, id: u64, destination: &str) {
    queue.add(MessageId(id), id as u32, Time(100 * SECOND), one(destination, 0), Time(0));
}

fn drain(queue: &mut Queue<u32>) -> Vec<Due<u32>> {
    core::iter::from_fn(|| queue.take()).collect()
}

#[test]
fn destinations_take_turns_within_their_windows() {
    let mut queue = Queue::new(0);
    (0..100).for_each(|id| add(&mut queue, id, "slow"));
    (100..103).for_each(|id| add(&mut queue, id, "quick"));
    let out = drain(&mut queue);
    assert_eq!(out.len(), WINDOW_MIN + 3);
    assert!(out[..6].iter().filter(|due| &*due.destination == "quick").count() == 3);
    assert!(queue.is_backed_up("slow") && !queue.is_backed_up("quick"));
    let settled = queue.settle(out[0].key, Indices::new(), Time(0));
    assert_eq!(settled.retired, Some(out[0].place));
    assert_eq!(drain(&mut queue).len(), 1, "one settled, one more may leave");
}

#[test]
fn deferred_recipients_come_back_when_due_and_only_they() {
    let mut queue = Queue::new(0);
    let both = NewDelivery { recipients: [0, 1].into_iter().collect(), ..one("a", 0).remove(0) };
    queue.add(MessageId(1), 1, Time(100 * SECOND), alloc::vec![both], Time(0));
    let due = queue.take().expect("ready");
    assert_eq!(queue.settle(due.key, [1].into_iter().collect(), Time(5 * SECOND)).retired, None);
    assert_eq!((queue.take(), queue.next_due()), (None, Time(5 * SECOND)));
    queue.tick(Time(5 * SECOND - 1));
    assert_eq!(queue.take(), None);
    queue.tick(Time(5 * SECOND));
    let again = queue.take().expect("due");
    assert_eq!((&*again.recipients, again.attempts), (&[1u16][..], 1));
    assert_eq!(queue.settle(again.key, Indices::new(), Time(0)).retired, Some(1));
    assert_eq!((queue.messages(), queue.deliveries(), queue.out(), queue.next_due()), (0, 0, 0, Time::FAR));
}

#[test]
fn a_message_is_retired_with_its_last_delivery() {
    let mut queue = Queue::new(0);
    let deliveries = ["a", "b", "c"].iter().flat_map(|name| one(name, 0));
    queue.add(MessageId(1), 7, Time(100 * SECOND), deliveries, Time(0));
    let out = drain(&mut queue);
    let retired: Vec<_> =
        out.iter().map(|due| queue.settle(due.key, Indices::new(), Time(0)).retired).collect();
    assert_eq!(retired, [None, None, Some(7)]);
}

#[test]
fn a_resting_destination_keeps_its_deliveries_ready() {
    let mut queue = Queue::new(0);
    add(&mut queue, 1, "a");
    queue.rest("a", Time(3 * SECOND));
    assert_eq!((queue.take(), queue.ready(), queue.next_due()), (None, 1, Time(3 * SECOND)));
    queue.rest("a", Time(4 * SECOND));
    queue.tick(Time(3 * SECOND));
    assert_eq!(queue.take(), None, "the later rest holds");
    queue.tick(Time(4 * SECOND));
    assert!(queue.take().is_some());
}

#[test]
fn age_is_seen_in_every_state_but_out() {
    let mut queue = Queue::new(0);
    (0..20).for_each(|id| add(&mut queue, id, "ready"));
    queue.add(MessageId(50), 50, Time(100 * SECOND), one("later", 99 * SECOND), Time(0));
    let out = drain(&mut queue);
    assert!(queue.sweep(Time(99 * SECOND), 1000, 1000).is_empty());
    let old = queue.sweep(Time(100 * SECOND), 1000, 1000);
    assert_eq!(old.len(), 21 - out.len());
    for due in old.iter().chain(&out) {
        queue.settle(due.key, Indices::new(), Time(0));
    }
    assert_eq!((queue.messages(), queue.ready(), queue.out()), (0, 0, 0));
    queue.tick(Time(1000 * SECOND));
    assert_eq!(queue.take(), None, "stale timers make nothing ready");
}

#[test]
fn a_sweep_sees_everything_once_per_period() {
    let mut queue = Queue::new(0);
    (0..1000).for_each(|id| add(&mut queue, id, "a"));
    let (tick, period) = (Duration::from_secs(1), Duration::from_secs(60));
    let seen: usize = (0..=60)
        .map(|_| {
            let budget = queue.sweep_budget(tick, period);
            queue.sweep(Time(100 * SECOND), budget, 1000).len()
        })
        .sum();
    assert_eq!(seen, 1000);
}

#[test]
fn the_tables_are_as_small_as_documented() {
    use crate::outlook::Outlook;
    let sizes = [size_of::<Message<[u32; 4]>>(), size_of::<Delivery>(), size_of::<Outlook>()];
    assert_eq!(sizes, [40, 32, 56]);
}

#[test]
fn fresh_mail_is_not_held_up_by_retries() {
    let mut queue = Queue::new(0);
    let retry = |id: u64| NewDelivery { attempts: 3, ..one("back", id).remove(0) };
    for id in 1..=1000 {
        queue.add(MessageId(id), id as u32, Time(100 * SECOND), [retry(id)], Time(0));
    }
    queue.tick(Time(1000));
    assert_eq!((queue.ready(), queue.next_due()), (1000, Time::FAR));
    (2000..2004).for_each(|id| add(&mut queue, id, "back"));
    let left: Vec<u64> = drain(&mut queue).iter().map(|due| due.id.0).collect();
    let first = [2000, 1, 2001, 2, 2002, 3, 2003, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    assert_eq!(left, first, "in turn, and the retries alone when nothing else is left");
}

#[test]
fn what_is_due_together_becomes_ready_by_slices() {
    let mut queue = Queue::new(0);
    let count = 2 * TICK_MAX + 1;
    for id in 0..count as u64 {
        queue.add(MessageId(id), id as u32, Time(100 * SECOND), one("a", SECOND), Time(0));
    }
    for ready in [TICK_MAX, 2 * TICK_MAX, count] {
        assert_eq!(queue.next_due(), Time(SECOND));
        queue.tick(Time(SECOND));
        assert_eq!(queue.ready(), ready);
    }
    assert_eq!(queue.next_due(), Time::FAR);
}

#[test]
fn a_claim_from_the_middle_of_a_line_leaves_the_rest_in_order() {
    let mut queue = Queue::new(0);
    for id in 0..10u64 {
        let expires = Time(if [0, 4, 5, 9].contains(&id) { SECOND } else { 100 * SECOND });
        queue.add(MessageId(id), id as u32, expires, one("a", 0), Time(0));
    }
    let claimed: Vec<u32> = queue.sweep(Time(SECOND), 1000, 1000).iter().map(|due| due.place).collect();
    let left: Vec<u32> = drain(&mut queue).iter().map(|due| due.place).collect();
    assert_eq!((&claimed[..], &left[..]), (&[0, 4, 5, 9][..], &[1, 2, 3, 6, 7, 8][..]));
}

#[test]
fn a_destination_that_rests_is_forgotten_with_its_last_delivery() {
    let mut queue = Queue::new(0);
    add(&mut queue, 1, "a");
    add(&mut queue, 2, "b");
    let out = drain(&mut queue);
    queue.rest("a", Time(5 * SECOND));
    queue.rest("b", Time(6 * SECOND));
    for due in out {
        queue.settle(due.key, Indices::new(), Time(0));
    }
    assert_eq!((queue.next_due(), queue.destinations.slots.len()), (Time::FAR, 0));
}

#[test]
fn recipients_that_do_not_fit_are_kept_beside() {
    let mut queue = Queue::new(0);
    let many = NewDelivery { recipients: (0..100).collect(), ..one("a", 0).remove(0) };
    queue.add(MessageId(1), 1, Time(100 * SECOND), [many], Time(0));
    let due = queue.take().expect("ready");
    assert_eq!(due.recipients, (0..100).collect::<Indices>());
    queue.settle(due.key, [7, 9].into_iter().collect(), Time(1));
    queue.tick(Time(1));
    let due = queue.take().expect("ready");
    assert_eq!(&due.recipients[..], [7, 9]);
    queue.settle(due.key, [9].into_iter().collect(), Time(2));
    assert_eq!(queue.lists.len(), 0);
}
