//! How long content may take.

use core::time::Duration;

use mail::Time;

use super::Profile;

/// When the first bytes of a content were waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    begun: Option<Time>,
}

impl Pace {
    /// When bytes must have come, if `size` have come by `now`: within the time-out, and no later than a sender at
    /// the slowest rate would have them sent. A trickle so has an end.
    pub(super) fn deadline(&mut self, size: u64, now: Time, profile: &Profile) -> Time {
        let begun = *self.begun.get_or_insert(now);
        let next = now + profile.data_timeout;
        match size.checked_div(u64::from(profile.content_rate_min)) {
            Some(seconds) => next.min(begun + profile.data_timeout + Duration::from_secs(seconds)),
            None => next,
        }
    }
}
