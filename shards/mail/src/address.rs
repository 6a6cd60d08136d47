//! Mailboxes as SMTP writes them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

/// Longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
pub const LOCAL_BYTES_MAX: usize = 64;
/// Longest domain, in bytes (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;

/// `local@domain`. The domain is in lower case; the local part is as it came (RFC 5321 section 2.4). Cloning it copies
/// no text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    at: u16,
}

/// Why a text is no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No `@`, or nothing before it.
    Incomplete,
    /// The local part is neither a dot-string nor a quoted string.
    LocalPart,
    /// The local part is longer than [`LOCAL_BYTES_MAX`].
    LocalPartTooLong,
    /// The domain is neither a domain name nor an address literal.
    Domain,
    /// The domain is longer than [`DOMAIN_BYTES_MAX`].
    DomainTooLong,
    /// UTF-8 without SMTPUTF8.
    Utf8,
}

impl Address {
    /// Parses a mailbox without its angle brackets; UTF-8 is allowed only with `utf8`.
    pub fn parse(text: &str, utf8: bool) -> Result<Address, AddressError> {
        if !utf8 && !text.is_ascii() {
            return Err(AddressError::Utf8);
        }
        let at = local_part_end(text).ok_or(AddressError::Incomplete)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > LOCAL_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        if domain.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::DomainTooLong);
        }
        if !is_local_part(local) {
            return Err(AddressError::LocalPart);
        }
        if !is_domain(domain) && !is_literal(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Address { text: with_lower_domain(text, at + 1), at: at as u16 })
    }

    /// The part before the last `@`, quotes included.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The part after it, in lower case; an address literal keeps its brackets.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The whole mailbox.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can be sent only to a next hop with SMTPUTF8.
    pub fn is_utf8(&self) -> bool {
        !self.text.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `text`, in lower case from `domain_at` on.
fn with_lower_domain(text: &str, domain_at: usize) -> Arc<str> {
    let (front, domain) = text.split_at(domain_at);
    if !domain.is_ascii() {
        let mut whole = String::from(front);
        whole.extend(domain.chars().flat_map(char::to_lowercase));
        return whole.into();
    }
    let mut whole: Arc<str> = Arc::from(text);
    Arc::get_mut(&mut whole).expect("nobody else has it yet")[domain_at..].make_ascii_lowercase();
    whole
}

/// Where the `@` after the local part is; a quoted local part may hold others.
fn local_part_end(text: &str) -> Option<usize> {
    let at = if text.starts_with('"') { quoted_end(text)? } else { text.find('@')? };
    (at > 0 && text.as_bytes().get(at) == Some(&b'@')).then_some(at)
}

/// The offset after the closing quote of a quoted string at the start of `text`.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (offset, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(offset + 1),
            _ => {}
        }
    }
    None
}

fn is_local_part(local: &str) -> bool {
    if local.starts_with('"') {
        // RFC 5321 section 4.1.2: printable ASCII and space, quote and backslash escaped.
        let inside = &local[1..local.len() - 1];
        return inside.bytes().all(|b| b >= b' ' && b != 0x7f);
    }
    local.as_bytes().split(|byte| *byte == b'.').all(|atom| !atom.is_empty() && atom.iter().all(is_atext))
}

fn is_atext(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(byte)
}

/// A domain name: labels of letters, digits, hyphens (and, beyond the RFC but in use, underscores).
pub fn is_domain(domain: &str) -> bool {
    domain.len() <= DOMAIN_BYTES_MAX && domain.as_bytes().split(|byte| *byte == b'.').all(is_label)
}

fn is_label(label: &[u8]) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    label.len() <= 63
        && edge(label.first())
        && edge(label.last())
        && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_' || *b >= 0x80)
}

/// An address literal: `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
pub fn is_literal(domain: &str) -> bool {
    literal_address(domain).is_some()
}

/// The address inside an address literal.
pub fn literal_address(domain: &str) -> Option<core::net::IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inside[5..].parse().ok().map(core::net::IpAddr::V6),
        _ => inside.parse().ok().map(core::net::IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn mailboxes_that_are() {
        for (text, local, domain) in [
            ("a@b", "a", "b"),
            ("First.Last+tag@Example.COM", "First.Last+tag", "example.com"),
            ("\"a b\"@x.org", "\"a b\"", "x.org"),
            ("\"a@b\\\"\"@x.org", "\"a@b\\\"\"", "x.org"),
            ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
            ("a@[IPv6:2001:DB8::1]", "a", "[ipv6:2001:db8::1]"),
            ("a@_dmarc.x", "a", "_dmarc.x"),
        ] {
            let address = Address::parse(text, false).expect(text);
            assert_eq!((address.local(), address.domain()), (local, domain));
        }
        assert_eq!(Address::parse("jörg@münchen.example", true).expect("utf8").domain(), "münchen.example");
    }

    #[test]
    fn texts_that_are_no_mailbox() {
        for (text, error) in [
            ("", AddressError::Incomplete),
            ("a", AddressError::Incomplete),
            ("@b", AddressError::Incomplete),
            ("\"a", AddressError::Incomplete),
            ("\"a\"b@c", AddressError::Incomplete),
            ("a..b@c", AddressError::LocalPart),
            (".a@c", AddressError::LocalPart),
            ("a b@c", AddressError::LocalPart),
            ("a@", AddressError::Domain),
            ("a@b..c", AddressError::Domain),
            ("a@-b", AddressError::Domain),
            ("a@b@c", AddressError::Domain),
            ("a@[1.2.3]", AddressError::Domain),
            ("a@[IPv6:zz]", AddressError::Domain),
            ("a@b>c", AddressError::Domain),
            ("é@b", AddressError::Utf8),
        ] {
            assert_eq!(Address::parse(text, false), Err(error), "{text}");
        }
        assert_eq!(
            Address::parse(&format!("{}@b", "a".repeat(65)), false),
            Err(AddressError::LocalPartTooLong)
        );
        assert_eq!(
            Address::parse(&format!("a@{}", "a.".repeat(200)), false),
            Err(AddressError::DomainTooLong)
        );
    }

    #[test]
    fn every_short_text_over_a_hostile_alphabet_is_judged_without_panic() {
        let alphabet = ['a', '@', '.', '"', '\\', '[', ']', '-', ' ', '\u{e9}', '\0'];
        let mut texts = alloc::vec![String::new()];
        for _ in 0..5 {
            texts = texts.iter().flat_map(|t| alphabet.iter().map(move |c| format!("{t}{c}"))).collect();
            for text in &texts {
                if let Ok(address) = Address::parse(text, true) {
                    assert_eq!(format!("{}@{}", address.local(), address.domain()), address.as_str());
                }
            }
        }
    }
}
