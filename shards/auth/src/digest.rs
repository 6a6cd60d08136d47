//! HMAC and SHA-256, in the form in which the rest needs them.

use ring::{digest, hmac};

/// Bytes of a SHA-256.
pub(crate) const BYTES: usize = 32;

/// SHA-256.
pub(crate) fn hash(data: &[u8]) -> [u8; BYTES] {
    array(digest::digest(&digest::SHA256, data).as_ref())
}

/// HMAC with SHA-256 over all parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    array(context.sign().as_ref())
}

/// As [`hmac`], with the length of each part before it, so that no two lists of parts look the same.
pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    array(context.sign().as_ref())
}

fn array(bytes: &[u8]) -> [u8; BYTES] {
    bytes.try_into().expect("a SHA-256 has 32 bytes")
}
