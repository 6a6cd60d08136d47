//! All users, and whether a password is right.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::digest::{self, BYTES};
use crate::{Credentials, ITERATIONS, PasswordHash, ScramVerifier, Secret, User};

/// Bytes of salt that nobody's verifier has; `mtad user add` gives as many.
const SALT_BYTES: usize = 16;
/// Bytes of our part of a nonce, before it is encoded.
const NONCE_BYTES: usize = 18;
/// The hash that is checked for users that there are not: of no known password, and as costly as [`crate::Cost`] says.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Bytes that only this relay knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// All users. It does not change: when users come and go another one takes its place.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: BTreeMap<Box<str>, Arc<User>>,
    decoy: Key,
    key: Key,
    nobody: Option<PasswordHash>,
}

impl Users {
    /// These users. `decoy` makes up the salts of those that there are not, and should live as long as theirs, or else
    /// they can be told apart by salts that change; `key` is random and new for each run of the program.
    pub fn new(users: impl IntoIterator<Item = User>, decoy: Key, key: Key) -> Users {
        let by_name = users.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect();
        Users { by_name, decoy, key, nobody: PasswordHash::parse(NOBODY) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All users, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// The user of this name who is not shut out.
    pub fn active(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name).filter(|user| !user.disabled)
    }

    /// Whether this is the password of that user. Takes tens of milliseconds and megabytes, also when there is no such
    /// user, so that time does not tell who there is: never call it on a shard's thread.
    pub fn check(&self, name: &str, password: &Secret) -> Option<Arc<User>> {
        let user = self.active(name);
        let matches = match user.map(|user| (&user.password, &user.scram)) {
            Some((Some(hash), _)) => hash.matches(password),
            Some((None, Some(verifier))) => verifier.matches(password),
            Some((None, None)) | None => {
                let nobody = self.nobody.as_ref();
                nobody.is_some_and(|nobody| nobody.matches(password)) && user.is_some()
            }
        };
        user.filter(|_| matches).cloned()
    }

    /// What a proof of `name` is checked against. Somebody who is not there, or has no verifier, gets one that fits no
    /// password, and always the same. `unique` is different each time.
    pub fn credentials(&self, name: &str, unique: &[u8]) -> Credentials {
        let verifier = self.active(name).and_then(|user| user.scram.clone());
        let nonce = digest::keyed(&self.key.0, &[b"nonce", unique]);
        Credentials {
            verifier: verifier.unwrap_or_else(|| self.nobodys_verifier(name)),
            nonce: STANDARD_NO_PAD.encode(&nonce[..NONCE_BYTES]),
        }
    }

    fn nobodys_verifier(&self, name: &str) -> ScramVerifier {
        let make_up = |what: &[u8]| digest::keyed(&self.decoy.0, &[what, name.as_bytes()]);
        ScramVerifier {
            salt: make_up(b"salt")[..SALT_BYTES].to_vec(),
            iterations: ITERATIONS,
            stored_key: make_up(b"stored key"),
            server_key: make_up(b"server key"),
        }
    }

    /// What stands for a password of a user in [`crate::Verified`]. It changes with what is kept of the password, and
    /// gives nothing away. `None` for users that there are not.
    pub fn fingerprint(&self, name: &str, password: &Secret) -> Option<[u8; BYTES]> {
        let user = self.active(name)?;
        let hash = user.password.as_ref().map_or("", PasswordHash::as_str);
        let stored: &[u8] = user.scram.as_ref().map_or(&[], |verifier| &verifier.stored_key);
        let parts = [b"password", user.name.as_bytes(), hash.as_bytes(), stored, password.bytes()];
        Some(digest::keyed(&self.key.0, &parts))
    }
}

/// Two are the same when they hold the same users, whatever their keys.
impl PartialEq for Users {
    fn eq(&self, other: &Users) -> bool {
        self.by_name == other.by_name
    }
}

impl Default for Users {
    /// Nobody.
    fn default() -> Users {
        Users::new([], Key([0; BYTES]), Key([0; BYTES]))
    }
}

impl Key {
    /// Reads what [`Key::encode`] writes.
    pub fn parse(text: &str) -> Option<Key> {
        STANDARD_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).map(Key)
    }

    /// The key as a text.
    pub fn encode(&self) -> String {
        STANDARD_NO_PAD.encode(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cost, password};
    use alloc::vec::Vec;
    use core::num::NonZeroU32;

    fn user(name: &str, hashed: bool, scram: bool) -> User {
        let secret = password("pencil").unwrap();
        let cost = Cost { memory_kib: 8, passes: 1 };
        let iterations = NonZeroU32::new(4096).unwrap();
        User {
            name: name.into(),
            password: hashed.then(|| PasswordHash::new(&secret, b"saltsalt", cost).unwrap()),
            scram: scram.then(|| ScramVerifier::new(&secret, b"saltsalt".to_vec(), iterations)),
            senders: Vec::new(),
            tenant: None,
            messages: None,
            recipients: None,
            disabled: false,
        }
    }

    fn users() -> Users {
        let disabled = User { disabled: true, ..user("gone", true, true) };
        let list =
            [user("both", true, true), user("hash", true, false), user("scram", false, true), disabled];
        Users::new(list.into_iter().chain([user("none", false, false)]), Key([1; 32]), Key([2; 32]))
    }

    #[test]
    fn a_password_is_right_for_its_user_only() {
        let users = users();
        let (right, wrong) = (password("pencil").unwrap(), password("pen").unwrap());
        for (name, is_right) in [
            ("both", true),
            ("hash", true),
            ("scram", true),
            ("gone", false),
            ("none", false),
            ("who", false),
        ] {
            assert_eq!(users.check(name, &right).is_some(), is_right, "{name}");
            assert_eq!(users.check(name, &wrong), None, "{name}");
        }
        assert!(users.nobody.is_some());
    }

    #[test]
    fn who_is_not_there_looks_like_the_others() {
        let users = users();
        let [real, fake] = ["both", "who"].map(|name| users.credentials(name, b"1").verifier);
        assert_eq!(users.credentials("who", b"2").verifier, fake);
        assert_ne!(users.credentials("whom", b"1").verifier.salt, fake.salt);
        assert_eq!((fake.salt.len(), fake.iterations), (SALT_BYTES, ITERATIONS));
        assert!(!fake.matches(&password("pencil").unwrap()) && real.matches(&password("pencil").unwrap()));
        // A user whom SCRAM cannot check, or who is shut out, is as good as absent.
        for name in ["hash", "none", "gone"] {
            assert_eq!(users.credentials(name, b"1").verifier, users.nobodys_verifier(name));
        }
    }

    #[test]
    fn nonces_and_fingerprints_differ() {
        let users = users();
        assert_ne!(users.credentials("both", b"1").nonce, users.credentials("both", b"2").nonce);
        let of = |name, text| users.fingerprint(name, &password(text).unwrap());
        assert_ne!(of("both", "pencil"), of("both", "pencils"));
        assert_ne!(of("both", "pencil"), of("hash", "pencil"));
        assert_eq!((of("who", "pencil"), of("gone", "pencil")), (None, None));
    }

    #[test]
    fn a_key_is_written_and_read_back() {
        let key = Key([7; 32]);
        assert_eq!(Key::parse(&key.encode()), Some(key));
        assert_eq!(Key::parse("AAAA"), None);
    }
}
