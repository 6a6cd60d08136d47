//! Numbers for people.

/// Three significant digits, or all of those before the point; thousands set apart.
pub(crate) fn plain(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        return "–".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞".into() } else { "−∞".into() };
    }
    if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        0.0 => 0,
        _ if value.fract() == 0.0 || size >= 99.95 => 0,
        _ => (2.0 - (size * 1.0005).log10().floor()) as usize,
    };
    grouped(value, decimals)
}

/// The label of a tick: no zeros at the end, since ticks are round.
pub(crate) fn tick(value: f64) -> String {
    let text = plain(value);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// A ratio: two digits after the point, fewer if it is large, more if it is small.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        _ if (0.01..0.0995).contains(&value) => grouped(value, 3),
        _ if (0.0995..9.995).contains(&value) => grouped(value, 2),
        _ => plain(value),
    }
}

/// A change of this share as percent, with its sign.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        change if !change.is_finite() => "from 0".into(),
        change if change.abs() < 0.05 => "0.0%".into(),
        change if change.abs() >= 99.95 => format!("{}{}%", sign(change), grouped(change.abs(), 0)),
        change => format!("{}{:.1}%", sign(change), change.abs()),
    }
}

/// A latency of so many microseconds with a fitting unit.
pub(crate) fn latency(microseconds: f64) -> String {
    match microseconds {
        value if value < 1e3 => format!("{} µs", tick(value)),
        value if value < 1e6 => format!("{} ms", tick(value / 1e3)),
        value => format!("{} s", tick(value / 1e6)),
    }
}

/// A unit as it is printed.
pub(crate) fn unit(unit: &str) -> String {
    match unit.strip_prefix("us") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("µs{rest}"),
        _ => unit.into(),
    }
}

/// With this many decimals; thousands set apart by commas.
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::from(if value < 0.0 && text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        "−"
    } else {
        ""
    });
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "−" } else { "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        let cases = [
            (0.0, "0"),
            (5.0, "5"),
            (1234567.2, "1,234,567"),
            (-12345.0, "−12,345"),
            (99.96, "100"),
            (34.56, "34.6"),
            (9.996, "10.0"),
            (1.234, "1.23"),
            (0.0123456, "0.0123"),
            (0.00001, "1.00e-5"),
            (1e300, "1.00e300"),
            (f64::NAN, "–"),
            (f64::INFINITY, "∞"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (value, text) in cases {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn ratios_percents_and_latencies() {
        assert_eq!(["0.21", "1.00", "12.4", "0.012", "200"], [0.21, 1.0, 12.4, 0.0123, 200.0].map(ratio));
        assert_eq!(
            ["+12.3%", "−4.0%", "0.0%", "+900%", "from 0"],
            [0.123, -0.04, -1e-4, 9.0, f64::INFINITY].map(percent)
        );
        assert_eq!(["20 µs", "5 ms", "1.5 s"], [20.0, 5e3, 1.5e6].map(latency));
        assert_eq!(["0", "0.5", "20,000", "0.3"], [0.0, 0.5, 20_000.0, 0.1 + 0.2].map(tick));
        assert_eq!(["µs", "µs/message", "ms", "users"], ["us", "us/message", "ms", "users"].map(unit));
        assert_eq!(grouped(-0.04, 1), "0.0");
    }
}
