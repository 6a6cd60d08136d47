//! What `SCRAM-SHA-256` says (RFC 5802 section 7, RFC 7677), with and without channel binding.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::BYTES;
use crate::exchange::End;
use crate::plain::may_act_as;
use crate::{Credentials, prepare};

/// The client's first message.
#[derive(Debug)]
pub(crate) struct FirstMessage {
    /// Whom it claims to be.
    pub(crate) user: Box<str>,
    /// All after the header.
    bare: String,
    nonce: String,
    /// What the client must repeat: the header, and the data of the channel.
    binding: Vec<u8>,
}

/// What the client's last message is held against.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Whom it claims to be.
    pub(crate) user: Box<str>,
    /// The first message of the client without its header, a comma, and ours.
    said: String,
    nonce: String,
    binding: Vec<u8>,
    credentials: Credentials,
}

impl FirstMessage {
    /// Reads `header,n=user,r=nonce`. `is_bound` says that this is the mechanism with channel binding, `exporter` what
    /// there is to bind to.
    pub(crate) fn read(
        message: &str,
        is_bound: bool,
        exporter: Option<[u8; 32]>,
    ) -> Result<FirstMessage, End> {
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(acts_as), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(End::Malformed);
        };
        let mut binding = Vec::from(&message[..message.len() - bare.len()]);
        match flag {
            "n" if !is_bound => {}
            // The client could bind and believes that we cannot. When we can, someone in between has told it so.
            "y" if !is_bound => exporter.is_none().then_some(()).ok_or(End::Denied)?,
            "p=tls-exporter" if is_bound => binding.extend_from_slice(&exporter.ok_or(End::Denied)?),
            // RFC 5802 section 6: another kind of binding than ours fails.
            flag if is_bound && flag.starts_with("p=") => return Err(End::Denied),
            _ => return Err(End::Malformed),
        }
        // A first attribute other than the name is an extension that we must understand (`m=`), and do not.
        let (name, rest) = bare.split_once(',').ok_or(End::Malformed)?;
        let user = name.strip_prefix("n=").and_then(decode_name).ok_or(End::Malformed)?;
        let user = prepare::name(&user).map_err(|_| End::Denied)?;
        let nonce = rest.split(',').next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(End::Malformed)?;
        let acts_as = match acts_as.strip_prefix("a=") {
            Some(name) => decode_name(name).ok_or(End::Malformed)?,
            None if acts_as.is_empty() => String::new(),
            None => return Err(End::Malformed),
        };
        if !may_act_as(&user, &acts_as) {
            return Err(End::Denied);
        }
        Ok(FirstMessage { user, bare: bare.into(), nonce: nonce.into(), binding })
    }

    /// Our first message, and what is needed later.
    pub(crate) fn challenge(self, credentials: Credentials) -> (String, Proof) {
        let nonce = format!("{}{}", self.nonce, credentials.nonce);
        let verifier = &credentials.verifier;
        let salt = BASE64.encode(&verifier.salt);
        let ours = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let said = format!("{},{ours}", self.bare);
        (ours, Proof { user: self.user, said, nonce, binding: self.binding, credentials })
    }
}

impl Proof {
    /// Reads `c=binding,r=nonce,p=proof`. Gives our own proof when the client's is right, `None` when it is wrong.
    pub(crate) fn check(self, message: &[u8]) -> Result<Option<String>, End> {
        let message = core::str::from_utf8(message).map_err(|_| End::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(End::Malformed)?;
        let proof = BASE64.decode(proof).ok().and_then(|proof| <[u8; BYTES]>::try_from(proof).ok());
        let proof = proof.ok_or(End::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        let binding = binding.and_then(|binding| BASE64.decode(binding).ok()).ok_or(End::Malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(End::Malformed)?;
        // Neither is secret, and the proof covers both.
        if binding != self.binding || nonce != self.nonce {
            return Ok(None);
        }
        let said = format!("{},{without_proof}", self.said);
        Ok(self
            .credentials
            .verifier
            .prove(said.as_bytes(), &proof)
            .map(|ours| format!("v={}", BASE64.encode(ours))))
    }
}

/// Undoes `=2C` and `=3D`; `None` for any other `=`.
fn decode_name(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut decoded = String::from(parts.next()?);
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        decoded.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        decoded.push_str(rest);
    }
    Some(decoded)
}

/// Printable ASCII without a comma, which every client has more than a few of.
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}
