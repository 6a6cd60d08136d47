//! Sizes of messages as the command line writes them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::Content;
use crate::quantity::bytes;

/// Different sizes that a range is made of.
const RANGE_SIZES: u32 = 64;
/// Sum of the weights of all classes; a larger one is an error.
const WEIGHTS_MAX: u64 = 10_000;

impl FromStr for Content {
    type Err = String;

    /// Parses `4096`, `1k..64k` or `2k:70,20k:25,1m:5`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (bytes(low)?, bytes(high)?);
            return if low <= high {
                Ok(Self::Range(low, high))
            } else {
                Err(format!("{text:?} ends before it starts"))
            };
        }
        if !text.contains(':') {
            return bytes(text).map(Self::Fixed);
        }
        let classes = text.split(',').map(class).collect::<Result<Vec<_>, _>>()?;
        let weights: u64 = classes.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if weights > WEIGHTS_MAX {
            return Err(format!("the weights sum up to {weights}, at most {WEIGHTS_MAX} are possible"));
        }
        Ok(Self::Classes(classes))
    }
}

impl Display for Content {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes} bytes"),
            Self::Range(low, high) => write!(f, "{low}..{high} bytes"),
            Self::Classes(classes) => {
                let classes: Vec<_> =
                    classes.iter().map(|(bytes, weight)| format!("{bytes}:{weight}")).collect();
                write!(f, "{} bytes", classes.join(","))
            }
            Self::Varied => write!(f, "varied"),
            Self::Eml(directory) => write!(f, "files of {}", directory.display()),
        }
    }
}

fn class(text: &str) -> Result<(usize, u32), String> {
    let (size, weight) = text.split_once(':').ok_or(format!("{text:?} is not SIZE:WEIGHT"))?;
    let weight = weight.parse().ok().filter(|weight| *weight > 0);
    Ok((bytes(size)?, weight.ok_or(format!("{text:?} has no weight above zero"))?))
}

/// Sizes from `low` to `high`, each the same factor above the one before, with the same weight.
pub(super) fn spread(low: usize, high: usize) -> Vec<(usize, u32)> {
    let ratio = high as f64 / low as f64;
    let size = |step: u32| low as f64 * ratio.powf((f64::from(step) + 0.5) / f64::from(RANGE_SIZES));
    (0..RANGE_SIZES).map(|step| (size(step) as usize, 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_text() {
        for (text, content) in [
            ("4096", Content::Fixed(4096)),
            ("4k", Content::Fixed(4096)),
            ("1k..2M", Content::Range(1024, 2 << 20)),
            ("2k:70,20k:25,1m:5", Content::Classes(vec![(2048, 70), (20_480, 25), (1 << 20, 5)])),
        ] {
            assert_eq!(text.parse(), Ok(content));
        }
        let wrong =
            ["", "0", "k", "4g", "-1", "1..", "2..1", "1k:", "1k:0", "1k:1,", "1:x", "1:10001", "1k2"];
        for text in wrong.into_iter().chain(["99999999999999999999", "99999999999999999m"]) {
            assert!(text.parse::<Content>().is_err(), "{text}");
        }
    }
}
