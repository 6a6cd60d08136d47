//! What is known of the ways to destinations, kept as long as the name system's answers hold, so that a domain is asked
//! for once per time to live and not once per message.

use crate::plan::{Nowhere, Plan};
use mail::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ways kept for destinations without orders and connections; beyond, further ones are looked up again.
pub const WAYS_MAX: usize = 100_000;

/// What is known of the way to a destination.
#[derive(Clone, Debug)]
pub enum Way {
    /// Nothing: it must be looked up before connections are opened.
    Unknown,
    /// It is being looked up.
    Asked,
    /// It leads here.
    Known(Arc<Plan>),
    /// There is none.
    Nowhere(Nowhere),
}

impl Way {
    /// Not to be relied on any more after this.
    pub fn expires(&self) -> Time {
        match self {
            Way::Known(plan) => plan.expires,
            Way::Nowhere(nowhere) => nowhere.until,
            Way::Unknown | Way::Asked => Time::FAR,
        }
    }
}

/// The ways to destinations that rest. One per shard.
#[derive(Debug, Default)]
pub struct Ways(BTreeMap<Arc<str>, Way>);

impl Ways {
    /// Takes the way to a destination out, if it is known and still holds.
    pub fn take(&mut self, name: &str, now: Time) -> Way {
        self.0.remove(name).filter(|way| way.expires() > now).unwrap_or(Way::Unknown)
    }

    /// Keeps a way that may be asked for again.
    pub fn keep(&mut self, name: Arc<str>, way: Way, now: Time) {
        if !matches!(way, Way::Known(_) | Way::Nowhere(_)) {
            return;
        }
        if self.0.len() >= WAYS_MAX {
            self.0.retain(|_, way| way.expires() > now);
        }
        if self.0.len() < WAYS_MAX {
            self.0.insert(name, way);
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(expires: u64) -> Way {
        Way::Known(Arc::new(Plan { endpoints: Vec::new(), expires: Time(expires) }))
    }

    #[test]
    fn a_way_is_kept_until_it_expires() {
        let mut ways = Ways::default();
        ways.keep("a".into(), way(10), Time(0));
        ways.keep("b".into(), way(10), Time(0));
        ways.keep("c".into(), Way::Asked, Time(0));
        assert!(matches!(ways.take("a", Time(9)), Way::Known(_)));
        assert!(matches!(ways.take("a", Time(9)), Way::Unknown));
        assert!(matches!(ways.take("b", Time(10)), Way::Unknown));
        assert_eq!(ways.len(), 0);
    }

    #[test]
    fn a_full_house_drops_what_has_expired_and_then_takes_no_more() {
        let mut ways = Ways::default();
        for number in 0..WAYS_MAX {
            ways.keep(number.to_string().into(), way(10), Time(0));
        }
        ways.keep("one more".into(), way(20), Time(0));
        assert_eq!(ways.len(), WAYS_MAX);
        ways.keep("one more".into(), way(20), Time(10));
        assert_eq!(ways.len(), 1);
    }
}
