//! Two clocks that must not be mixed up: [`Time`] never jumps and means nothing outside the process;
//! [`WallTime`] is what people and other machines understand, and may jump.

use alloc::string::String;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the monotonic clock, in nanoseconds since an origin that the host chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than anything that will happen.
    pub const FAR: Time = Time(u64::MAX);

    /// The time from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point in civil time, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The time from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// RFC 5322 section 3.3 date and time in UTC: `Wed, 25 Nov 2026 00:36:00 +0000`.
    pub fn rfc5322(self) -> String {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        let timestamp = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
        let zoned = timestamp.to_zoned(jiff::tz::TimeZone::UTC);
        jiff::fmt::rfc2822::to_string(&zoned).unwrap_or_default()
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;
    fn add(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for WallTime {
    type Output = WallTime;
    fn sub(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_5322_wants_it() {
        assert_eq!(WallTime(0).rfc5322(), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(WallTime(1_795_566_960_000_000).rfc5322(), "Wed, 25 Nov 2026 00:36:00 +0000");
        assert!(!WallTime(u64::MAX).rfc5322().is_empty());
    }

    #[test]
    fn times_saturate() {
        assert_eq!(Time::FAR + Duration::from_secs(1), Time::FAR);
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(WallTime(5) - Duration::from_secs(1), WallTime(0));
    }
}
