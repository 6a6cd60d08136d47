//! What is kept of a password so that a stolen file does not give it away: argon2id (RFC 9106) as a PHC string.

use alloc::boxed::Box;
use alloc::string::ToString as _;
use core::fmt;

use argon2::password_hash::{
    Ident, PasswordHash as Phc, PasswordHasher as _, PasswordVerifier as _, SaltString,
};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::Secret;

/// Most memory that a hash may ask for, in KiB: checking it takes that much.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes over the memory that it may ask for.
const PASSES_MAX: u32 = 64;

/// The work that checking a hash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Cost {
    /// 19 MiB and two passes, as OWASP advises for argon2id.
    fn default() -> Cost {
        Cost { memory_kib: 19_456, passes: 2 }
    }
}

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// The hash of `password`. Takes tens of milliseconds, and the memory that `cost` says. `None` when `cost` is out
    /// of range or `salt` has fewer than 8 or more than 48 bytes.
    pub fn new(password: &Secret, salt: &[u8], cost: Cost) -> Option<PasswordHash> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).ok()?;
        let salt = SaltString::encode_b64(salt).ok()?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon.hash_password(password.bytes(), &salt).ok()?;
        PasswordHash::parse(&hash.to_string())
    }

    /// Reads a PHC string; `None` when it is none, is not of argon2id, or asks for too much work.
    pub fn parse(text: &str) -> Option<PasswordHash> {
        let hash = Phc::new(text).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let is_sound = hash.algorithm == Ident::new_unwrap("argon2id")
            && hash.hash.is_some()
            && hash.salt.is_some()
            && params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= PASSES_MAX;
        is_sound.then(|| PasswordHash(text.into()))
    }

    /// Whether it was made from `password`. Takes tens of milliseconds and megabytes, as the hash says.
    pub fn matches(&self, password: &Secret) -> bool {
        let hash = Phc::new(&self.0);
        hash.is_ok_and(|hash| Argon2::default().verify_password(password.bytes(), &hash).is_ok())
    }

    /// The PHC string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::password;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    #[test]
    fn a_hash_knows_its_password_only() {
        let hash = PasswordHash::new(&password("pencil").unwrap(), b"saltsalt", CHEAP).unwrap();
        assert!(hash.matches(&password("pencil").unwrap()));
        assert!(!hash.matches(&password("Pencil").unwrap()));
        assert_eq!(PasswordHash::parse(hash.as_str()), Some(hash));
    }

    #[test]
    fn what_is_no_hash_is_not_taken_for_one() {
        let hash = PasswordHash::new(&password("pencil").unwrap(), b"saltsalt", CHEAP).unwrap();
        let text = hash.as_str();
        for bad in [
            "".into(),
            "pencil".into(),
            text.replace("argon2id", "argon2i"),
            text.replace("m=8", "m=4000000"),
            text.replace("t=1", "t=9999"),
            text.replace("t=1", "t=x"),
            text.rsplit_once('$').unwrap().0.into(),
        ] {
            assert_eq!(PasswordHash::parse(&bad), None, "{bad}");
        }
    }
}
