//! A delivery as the queue keeps it, and the lines in which ready ones stand.

use crate::slots::Slots;
use mail::Indices;

/// One message to one destination. Its own key is what names it outside.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: u32,
    pub(crate) destination: u32,
    pub(crate) state: State,
    pub(crate) recipients: Recipients,
    pub(crate) attempts: u16,
}

/// Where a delivery is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// At this position among the timers.
    Waiting { position: u32 },
    /// In its destination's line, between these two.
    Ready { before: u32, behind: u32 },
    /// On its way.
    Out,
}

/// Whom a delivery is for, by index in the envelope. Most are for one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipients {
    One(u16),
    /// The key of a list beside the deliveries.
    Many(u32),
}

/// Lists of recipients that do not fit into their delivery.
pub(crate) type Lists = Slots<Indices>;

impl Recipients {
    pub(crate) fn keep(lists: &mut Lists, mut indices: Indices) -> Recipients {
        if let [one] = indices[..] {
            return Recipients::One(one);
        }
        indices.shrink_to_fit();
        Recipients::Many(lists.insert(indices))
    }

    pub(crate) fn indices(self, lists: &Lists) -> Indices {
        match self {
            Recipients::One(one) => [one].into_iter().collect(),
            Recipients::Many(key) => lists[key].clone(),
        }
    }

    pub(crate) fn forget(self, lists: &mut Lists) {
        if let Recipients::Many(key) = self {
            lists.remove(key);
        }
    }
}

/// No delivery.
const NONE: u32 = u32::MAX;

/// Ready deliveries, the oldest first, linked through the deliveries themselves: a line of a million takes no memory of
/// its own, and one in its middle leaves at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    first: u32,
    last: u32,
}

impl Default for Line {
    fn default() -> Line {
        Line { first: NONE, last: NONE }
    }
}

impl Line {
    pub(crate) fn first(self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Makes a delivery that stands in no line the last one of this.
    pub(crate) fn push(&mut self, deliveries: &mut Slots<Delivery>, key: u32) {
        deliveries[key].state = State::Ready { before: self.last, behind: NONE };
        match self.last {
            NONE => self.first = key,
            last => link(deliveries, last, |_, behind| *behind = key),
        }
        self.last = key;
    }

    /// Takes a delivery that stands in this line out of it; `State::Ready` is the caller's to replace.
    pub(crate) fn remove(&mut self, deliveries: &mut Slots<Delivery>, before: u32, behind: u32) {
        match before {
            NONE => self.first = behind,
            before => link(deliveries, before, |_, next| *next = behind),
        }
        match behind {
            NONE => self.last = before,
            behind => link(deliveries, behind, |previous, _| *previous = before),
        }
    }
}

fn link(deliveries: &mut Slots<Delivery>, key: u32, change: impl FnOnce(&mut u32, &mut u32)) {
    match &mut deliveries[key].state {
        State::Ready { before, behind } => change(before, behind),
        State::Waiting { .. } | State::Out => unreachable!("who stands in a line is ready"),
    }
}
