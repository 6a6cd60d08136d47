//! Durations and sizes as the command line writes them.

use std::time::Duration;

/// Parses a duration: a number with the unit ms, s, m or h.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 10s, 2m or 1h");
    let split = text.find(|character: char| character.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

/// Parses a number of bytes above zero, in multiples of 1024 with `k` and of 1024 times 1024 with `m`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size such as 4096, 4k or 1m");
    let (digits, unit) = match text.find(|character: char| !character.is_ascii_digit()) {
        None => (text, 1),
        Some(split) => match text.split_at(split) {
            (digits, "k" | "K") => (digits, 1024),
            (digits, "m" | "M") => (digits, 1024 * 1024),
            _ => return Err(wrong()),
        },
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, milliseconds) in [("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for wrong in ["", "10", "s", "-1s", "NaNs", "infs", "1d", "1 s", "1e300h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_above_zero_and_fits() {
        for (text, size) in [("1", 1), ("4096", 4096), ("4k", 4096), ("1M", 1 << 20)] {
            assert_eq!(bytes(text), Ok(size));
        }
        for wrong in ["", "0", "0k", "k", "4g", "-1", "1.5k", "99999999999999999999", "99999999999999999m"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
