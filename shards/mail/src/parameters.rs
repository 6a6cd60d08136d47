//! What a client asks for beside addresses and body: the parameters of MAIL and RCPT that stay with the message.

use crate::{WallTime, xtext};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest `ENVID`, encoded, in bytes (RFC 3461 section 4.4).
pub const ENVELOPE_ID_BYTES_MAX: usize = 100;
/// Longest `ORCPT`, encoded, in bytes (RFC 3461 section 4.2).
pub const ORIGINAL_BYTES_MAX: usize = 500;

/// What was asked of a message. The default is nothing, for which an envelope has none of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `RET` (RFC 3461 section 4.3).
    pub returns: Option<Return>,
    /// `ENVID` (RFC 3461 section 4.4) as it came, in xtext; [`is_envelope_id`] holds.
    pub envelope_id: Option<Box<str>>,
    /// `BY` (RFC 2852 section 4).
    pub by: Option<By>,
    /// `MT-PRIORITY` (RFC 6710 section 4), from -9 to 9.
    pub priority: Option<i8>,
    /// What was asked of some recipients, by their index, in its order.
    pub recipients: Vec<(u16, RecipientParameters)>,
}

/// What was asked of a recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientParameters {
    /// `NOTIFY` (RFC 3461 section 4.1).
    pub notify: Option<Notify>,
    /// `ORCPT` (RFC 3461 section 4.2) as it came: type, semicolon, xtext; [`is_original`] holds.
    pub original: Option<Box<str>>,
}

/// By when the message shall be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// The time.
    pub until: WallTime,
    /// What happens then to who has not got it.
    pub mode: ByMode,
    /// The sender wants a report from each relay on the way.
    pub trace: bool,
}

/// What happens when the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByMode {
    /// `N`: the sender is told of the delay.
    Notify,
    /// `R`: it comes back.
    Return,
}

/// How much of the message a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// `FULL`: all of it.
    Full,
    /// `HDRS`: its header.
    Headers,
}

/// Which reports the sender wants; none is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

impl Parameters {
    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        *self == Parameters::default()
    }

    /// What was asked of the recipient with this index.
    pub fn recipient(&self, index: u16) -> Option<&RecipientParameters> {
        let at = self.recipients.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.recipients[at].1)
    }
}

impl RecipientParameters {
    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.notify.is_none() && self.original.is_none()
    }
}

impl Notify {
    /// Reads the value of `NOTIFY`: `NEVER`, or some of the others, each once.
    pub fn parse(value: &str) -> Option<Notify> {
        let mut notify = Notify::default();
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in value.split(',') {
            let flag = match () {
                () if word.eq_ignore_ascii_case("SUCCESS") => &mut notify.success,
                () if word.eq_ignore_ascii_case("FAILURE") => &mut notify.failure,
                () if word.eq_ignore_ascii_case("DELAY") => &mut notify.delay,
                () => return None,
            };
            if core::mem::replace(flag, true) {
                return None;
            }
        }
        Some(notify)
    }

    /// The value of `NOTIFY`.
    pub fn value(self) -> String {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> =
            words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
        if words.is_empty() { "NEVER".into() } else { words.join(",") }
    }
}

/// Whether `text` can be an envelope identifier: xtext for printable ASCII, not too long.
pub fn is_envelope_id(text: &str) -> bool {
    let is_printable = |bytes: Vec<u8>| bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    text.len() <= ENVELOPE_ID_BYTES_MAX && xtext::decode(text).is_some_and(is_printable)
}

/// Whether `text` can be an original recipient: the type of an address, a semicolon, and the address, in xtext; with
/// the type `utf-8` it may be UTF-8 as it is (RFC 6533 section 3). It holds no control characters.
pub fn is_original(text: &str) -> bool {
    let Some((kind, _)) = text.split_once(';') else { return false };
    let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_kind && text.len() <= ORIGINAL_BYTES_MAX && shown_original(text).is_some_and(|shown| !shown.is_empty())
}

/// The address of an original recipient in its own form; `None` when it is not in order.
pub fn shown_original(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(';')?;
    let shown = if kind.eq_ignore_ascii_case("utf-8") && !address.is_ascii() {
        let is_plain = |c: char| !c.is_ascii() || (c.is_ascii_graphic() && c != '+' && c != '=');
        address.chars().all(is_plain).then(|| String::from(address))?
    } else {
        String::from_utf8(xtext::decode(address)?).ok()?
    };
    (!shown.contains(char::is_control)).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn what_notify_says_is_what_it_was_told() {
        for number in 0..8u8 {
            let notify = Notify { success: number & 1 > 0, failure: number & 2 > 0, delay: number & 4 > 0 };
            assert_eq!(Notify::parse(&notify.value()), Some(notify));
            assert_eq!(Notify::parse(&notify.value().to_ascii_lowercase()), Some(notify));
        }
        assert_eq!(Notify::default().value(), "NEVER");
        for bad in
            ["", ",", "SUCCESS,", "SUCCESS,SUCCESS", "NEVER,DELAY", "DELAY,NEVER", "DELAYS", "SUCCESS, DELAY"]
        {
            assert_eq!(Notify::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn envelope_ids_are_printable_and_short() {
        for good in ["a", "QQ314159", "a+20b", "+2B+3D", &"x".repeat(100)] {
            assert!(is_envelope_id(good), "{good}");
        }
        for bad in ["a+0D+0Ab", "a+00", "a+7F", "+C3+A9", "a b", "a=b", "a+2b", &"x".repeat(101)] {
            assert!(!is_envelope_id(bad), "{bad}");
        }
    }

    #[test]
    fn original_recipients_have_a_type_and_an_address() {
        for (good, shown) in [
            ("rfc822;a@b.example", "a@b.example"),
            ("RFC822;a+2Bb@c", "a+b@c"),
            ("x400;/C=de/", ""),
            ("x-other;any+20thing", "any thing"),
            ("utf-8;j\u{f6}rg@b", "j\u{f6}rg@b"),
            ("utf-8;j\\x{F6}rg@b", "j\\x{F6}rg@b"),
            ("rfc822;j+C3+B6rg@b", "j\u{f6}rg@b"),
        ] {
            assert_eq!(is_original(good), !shown.is_empty(), "{good}");
            if !shown.is_empty() {
                assert_eq!(shown_original(good).as_deref(), Some(shown));
            }
        }
        let long = format!("rfc822;{}", "x".repeat(500));
        for bad in [
            "",
            "a@b",
            ";a@b",
            "rfc822;",
            "rfc 822;a",
            "rfc822;a b",
            "rfc822;a=b",
            "rfc822;a+2bb",
            "rfc822;a+0D+0AX:+20y",
            "rfc822;\u{e9}",
            "utf-8;\u{e9}+20",
            "rfc822;+FF",
            &long,
        ] {
            assert!(!is_original(bad), "{bad}");
        }
    }
}
