//! What is kept of a password so that `SCRAM-SHA-256` can check proofs of it (RFC 5802 section 3), as a text in the
//! form of RFC 5803: `SCRAM-SHA-256$iterations:salt$stored key:server key`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::pbkdf2;
use subtle::ConstantTimeEq as _;

use crate::Secret;
use crate::digest::{self, BYTES};

/// Rounds of PBKDF2 for new verifiers; RFC 7677 section 4 wants at least 4,096. The client pays for them too.
pub const ITERATIONS: u32 = 16_384;
/// Rounds that a verifier may ask for.
const ITERATIONS_RANGE: core::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// Bytes of salt that a verifier may have.
const SALT_RANGE: core::ops::RangeInclusive<usize> = 8..=64;

/// What is kept of a password. It proves nothing by itself, but whoever has it can try passwords against it, and can
/// play the server.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    pub(crate) stored_key: [u8; BYTES],
    pub(crate) server_key: [u8; BYTES],
}

/// What an exchange needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Of the user, or of nobody.
    pub verifier: ScramVerifier,
    /// Our part of the nonce: printable ASCII without comma, never used twice.
    pub nonce: String,
}

impl ScramVerifier {
    /// The verifier of `password`. Takes milliseconds.
    pub fn new(password: &Secret, salt: Vec<u8>, iterations: NonZeroU32) -> ScramVerifier {
        let mut salted = [0; BYTES];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, &salt, password.bytes(), &mut salted);
        let stored_key = digest::hash(&digest::hmac(&salted, &[b"Client Key"]));
        let server_key = digest::hmac(&salted, &[b"Server Key"]);
        ScramVerifier { salt, iterations: iterations.get(), stored_key, server_key }
    }

    /// Reads what `Display` writes; `None` when it is something else, or asks for too much or too little work.
    pub fn parse(text: &str) -> Option<ScramVerifier> {
        let (work, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (work.split_once(':')?, keys.split_once(':')?);
        let key = |text: &str| <[u8; BYTES]>::try_from(BASE64.decode(text).ok()?).ok();
        let (iterations, salt) = (iterations.parse().ok()?, BASE64.decode(salt).ok()?);
        let is_sound = ITERATIONS_RANGE.contains(&iterations) && SALT_RANGE.contains(&salt.len());
        let verifier = ScramVerifier { salt, iterations, stored_key: key(stored)?, server_key: key(server)? };
        is_sound.then_some(verifier)
    }

    /// Whether it was made from `password`. Takes milliseconds.
    pub fn matches(&self, password: &Secret) -> bool {
        let Some(iterations) = NonZeroU32::new(self.iterations) else { return false };
        let other = ScramVerifier::new(password, self.salt.clone(), iterations);
        bool::from(self.stored_key.ct_eq(&other.stored_key))
    }

    /// Our own proof of all that was `said`, if the client's is right (RFC 5802 section 3).
    pub(crate) fn prove(&self, said: &[u8], proof: &[u8; BYTES]) -> Option<[u8; BYTES]> {
        let mut client_key = digest::hmac(&self.stored_key, &[said]);
        client_key.iter_mut().zip(proof).for_each(|(signature, proof)| *signature ^= proof);
        let is_right = bool::from(digest::hash(&client_key).ct_eq(&self.stored_key));
        is_right.then(|| digest::hmac(&self.server_key, &[said]))
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::password;
    use alloc::string::ToString;

    fn verifier(text: &str) -> ScramVerifier {
        let iterations = NonZeroU32::new(4096).unwrap();
        ScramVerifier::new(&password(text).unwrap(), b"12345678".to_vec(), iterations)
    }

    #[test]
    fn a_verifier_is_written_and_read_back() {
        let one = verifier("pencil");
        assert_eq!(ScramVerifier::parse(&one.to_string()), Some(one.clone()));
        assert!(one.matches(&password("pencil").unwrap()) && !one.matches(&password("pen").unwrap()));
    }

    #[test]
    fn what_is_no_verifier_is_not_taken_for_one() {
        let text = verifier("pencil").to_string();
        for cut in 0..text.len() {
            assert_eq!(ScramVerifier::parse(&text[..cut]), None, "{cut}");
        }
        for bad in [text.replace("4096", "1"), text.replace("4096", "4000000000"), text.replace("256", "1")] {
            assert_eq!(ScramVerifier::parse(&bad), None, "{bad}");
        }
    }
}
