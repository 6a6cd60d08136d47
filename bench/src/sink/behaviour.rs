//! How a sink treats its clients.

use std::str::FromStr;
use std::time::Duration;

use crate::quantity::{bytes, duration};

/// The names of all that a sink can do.
const NAMES: &str = "delay, temp, perm, drop, limit, trickle, shut, cut, slow-read, reset, greylist";

/// What happens to connections of a listener or to recipients of a domain. The default is a fast and honest
/// server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// Pause before every reply, the greeting included; for a domain, before every reply from its RCPT on.
    pub delay: Duration,
    /// Share of recipients in percent that are refused with 451.
    pub temporary_percent: f64,
    /// Share of recipients in percent that are refused with 550.
    pub permanent_percent: f64,
    /// Share of messages in percent after whose final dot the connection closes without a reply. They are not
    /// taken.
    pub drop_percent: f64,
    /// Connections at the same time, above which one is answered with 421; 0 for no limit. For listeners
    /// only.
    pub connections_max: u64,
    /// Pause between two bytes of a reply; for a domain, from the reply to its RCPT on.
    pub trickle: Duration,
    /// Messages on a connection, after which the next MAIL gets 421 and the connection closes; 0 for no limit.
    /// For listeners only.
    pub messages_max: u64,
    /// Share of messages in percent in the middle of whose content the connection closes. They are not taken.
    pub cut_percent: f64,
    /// Bytes per second at which contents are read, so that the client's socket fills up; 0 for no limit.
    pub read_rate: u64,
    /// Share of messages in percent after whose final dot the connection is reset (RST). They are not taken.
    pub reset_percent: f64,
    /// How long a recipient is refused with 451, from the first time that this client network (/24 or /64)
    /// asked for it with this sender.
    pub greylist: Duration,
}

impl Behaviour {
    /// Whether it says something that only a listener can do.
    pub(super) fn is_of_listener(&self) -> bool {
        self.connections_max != 0 || self.messages_max != 0
    }
}

impl FromStr for Behaviour {
    type Err = String;

    /// Parses `delay:10s+temp:5+perm:1+drop:0.5+limit:20` and so on; each part may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for part in text.split('+') {
            let (name, value) = part.split_once(':').ok_or(format!("{part:?} is not NAME:VALUE"))?;
            match name {
                "delay" => behaviour.delay = duration(value)?,
                "temp" => behaviour.temporary_percent = percent(value)?,
                "perm" => behaviour.permanent_percent = percent(value)?,
                "drop" => behaviour.drop_percent = percent(value)?,
                "limit" => behaviour.connections_max = number(value)?,
                "trickle" => behaviour.trickle = duration(value)?,
                "shut" => behaviour.messages_max = number(value)?,
                "cut" => behaviour.cut_percent = percent(value)?,
                "slow-read" => behaviour.read_rate = rate(value)?,
                "reset" => behaviour.reset_percent = percent(value)?,
                "greylist" => behaviour.greylist = duration(value)?,
                _ => return Err(format!("{name:?} is none of {NAMES}")),
            }
        }
        Ok(behaviour)
    }
}

/// A fault of the sink itself, so that the rig can be seen to find it: the sink tells the client that all is
/// well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Message number n is not counted.
    Lose(u32),
    /// Message number n is counted twice.
    Repeat(u32),
    /// The last byte of message number n is changed before it is verified.
    Alter(u32),
}

impl FromStr for Plant {
    type Err = String;

    /// Parses `lose:7`, `repeat:7` or `alter:7`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').ok_or(format!("{text:?} is not NAME:NUMBER"))?;
        let number = number.parse().map_err(|_| format!("{number:?} is not a message number"))?;
        match name {
            "lose" => Ok(Self::Lose(number)),
            "repeat" => Ok(Self::Repeat(number)),
            "alter" => Ok(Self::Alter(number)),
            _ => Err(format!("{name:?} is none of lose, repeat, alter")),
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=100.0).contains(value));
    value.ok_or(format!("{text:?} is not a percentage from 0 to 100"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").and_then(|size| bytes(size).ok());
    size.map(|bytes| bytes as u64).ok_or(format!("{text:?} is not a rate in bytes such as 10000/s or 10k/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_are_read_from_text() {
        let text = "delay:1.5s+temp:5+perm:0.5+drop:1+limit:20+trickle:10ms+shut:7+cut:2+slow-read:1000/s+\
             reset:3+greylist:2m";
        let expected = Behaviour {
            delay: Duration::from_millis(1500),
            temporary_percent: 5.0,
            permanent_percent: 0.5,
            drop_percent: 1.0,
            connections_max: 20,
            trickle: Duration::from_millis(10),
            messages_max: 7,
            cut_percent: 2.0,
            read_rate: 1000,
            reset_percent: 3.0,
            greylist: Duration::from_secs(120),
        };
        assert_eq!(text.parse::<Behaviour>(), Ok(expected));
        for wrong in [
            "",
            "delay",
            "delay:10",
            "temp:101",
            "perm:-1",
            "limit:x",
            "slow:1s",
            "delay:NaNs",
            "delay:-1s",
            "trickle:1",
            "shut:-1",
            "cut:x",
            "slow-read:1000",
            "slow-read:0/s",
            "reset:1+",
            "greylist:1d",
        ] {
            assert!(wrong.parse::<Behaviour>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_name_is_known() {
        for name in NAMES.split(", ") {
            let error = format!("{name}:?").parse::<Behaviour>().unwrap_err();
            assert!(error.starts_with("\"?\""), "{error}");
        }
    }
}
