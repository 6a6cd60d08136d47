//! User names and passwords in the one form in which they are compared (SASLprep, RFC 4013).
//!
//! SASLprep knows the characters of Unicode 3.2: a name or password with a later one, such as most emoji, can be
//! neither set nor used. Names are compared as they are, upper and lower case being different.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// Longest user name in bytes; a longer one is nobody's.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest password in bytes; a longer one is wrong.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A password. It is wiped from memory when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a text cannot be a name or a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing, or more than the bound.
    Length,
    /// Control characters, characters that Unicode 3.2 does not know, or directions mixed.
    Characters,
}

/// A user's name as it is compared.
///
/// # Errors
/// When it cannot be a name.
pub fn name(text: &str) -> Result<Box<str>, Unusable> {
    // Before the normal form is made, since that is work.
    if text.len() > NAME_BYTES_MAX {
        return Err(Unusable::Length);
    }
    let name = stringprep::saslprep(text).map_err(|_| Unusable::Characters)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX { Err(Unusable::Length) } else { Ok(name.into()) }
}

/// A password as it is compared.
///
/// # Errors
/// When it cannot be a password.
pub fn password(text: &str) -> Result<Secret, Unusable> {
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(Unusable::Length);
    }
    let bytes = match stringprep::saslprep(text).map_err(|_| Unusable::Characters)? {
        Cow::Borrowed(text) => text.as_bytes().to_vec(),
        Cow::Owned(text) => text.into_bytes(),
    };
    let secret = Secret(Zeroizing::new(bytes));
    if (1..=PASSWORD_BYTES_MAX).contains(&secret.0.len()) { Ok(secret) } else { Err(Unusable::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// RFC 4013 section 3.
    #[test]
    fn names_have_the_form_of_rfc_4013() {
        for (text, form) in [
            ("I\u{ad}X", Ok("IX")),
            ("user", Ok("user")),
            ("USER", Ok("USER")),
            ("\u{aa}", Ok("a")),
            ("\u{2168}", Ok("IX")),
            ("\u{7}", Err(Unusable::Characters)),
            ("\u{627}\u{31}", Err(Unusable::Characters)),
            ("", Err(Unusable::Length)),
            ("\u{ad}", Err(Unusable::Length)),
        ] {
            assert_eq!(name(text).as_deref(), form.as_ref().map(|form| &**form), "{text:?}");
        }
        assert_eq!(name(&"x".repeat(256)), Err(Unusable::Length));
    }

    #[test]
    fn a_password_is_never_shown() {
        let secret = password("I\u{ad}X").unwrap();
        assert_eq!((secret.bytes(), &*format!("{secret:?}")), (&b"IX"[..], "Secret"));
        assert_eq!(password(&"x".repeat(1025)), Err(Unusable::Length));
    }
}
