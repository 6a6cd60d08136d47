//! Whole relays in a thousand worlds: the promises hold in all of them, and planted faults are found.
//! `cargo run -p mtad-sim --example world SEED` tells what happens in one.

use host::Planted;
use sim::oracle::Complaint;
use sim::relay::{dark_end_of, end_of};

/// Runs the worlds of `seeds`; how many of them crashed, and what they delivered.
fn all_pass(seeds: std::ops::Range<u64>) -> (usize, usize) {
    let (mut crashed, mut deliveries) = (0, 0);
    for seed in seeds {
        let end = end_of(seed, Vec::new());
        assert_eq!(end.complaints, [], "seed {seed}");
        crashed += usize::from(end.crashes > 0);
        deliveries += end.deliveries;
    }
    (crashed, deliveries)
}

#[test]
fn promises_hold_in_the_first_half_of_the_worlds() {
    let (crashed, deliveries) = all_pass(0..800);
    assert!(crashed > 500 && deliveries > 8_000, "{crashed} crashed, {deliveries} deliveries");
}

#[test]
fn promises_hold_in_the_second_half_of_the_worlds() {
    let (crashed, deliveries) = all_pass(800..1600);
    assert!(crashed > 500 && deliveries > 8_000, "{crashed} crashed, {deliveries} deliveries");
}

#[test]
fn worlds_replay() {
    for seed in 0..10 {
        assert_eq!(end_of(seed, Vec::new()), end_of(seed, Vec::new()), "seed {seed}");
    }
}

#[test]
fn promises_hold_in_the_dark() {
    for seed in 0..200 {
        assert_eq!(dark_end_of(seed, Vec::new()).complaints, [], "seed {seed}");
    }
}

/// The first seed whose world complains of the fault.
fn found(fault: Planted, is_it: impl Fn(&Complaint) -> bool) -> Option<u64> {
    (0..200).find(|seed| dark_end_of(*seed, vec![fault]).complaints.iter().any(&is_it))
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    assert!(found(Planted::AckBeforeSync, |complaint| matches!(complaint, Complaint::Lost { .. })).is_some());
}

#[test]
fn a_lost_outcome_is_found() {
    let is_it = |complaint: &Complaint| matches!(complaint, Complaint::Duplicate { .. });
    assert!(found(Planted::OutcomeLost, is_it).is_some());
}

#[test]
fn an_order_dropped_at_a_full_queue_is_found() {
    assert!(found(Planted::OrderDropped, |complaint| matches!(complaint, Complaint::Lost { .. })).is_some());
}
