//! Which SASL mechanisms there are, and on which connections each is offered.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// `LOGIN`, which is old and has no RFC, but is all that some clients know.
    Login,
    /// RFC 7677.
    ScramSha256,
    /// RFC 7677, bound to the TLS connection by `tls-exporter` (RFC 9266).
    ScramSha256Plus,
    /// RFC 4422 appendix A: the identity of the TLS client certificate.
    External,
}

/// The strongest first, since some clients take the first that they know.
const ALL: [(Mechanism, &str); 5] = [
    (Mechanism::ScramSha256Plus, "SCRAM-SHA-256-PLUS"),
    (Mechanism::ScramSha256, "SCRAM-SHA-256"),
    (Mechanism::External, "EXTERNAL"),
    (Mechanism::Plain, "PLAIN"),
    (Mechanism::Login, "LOGIN"),
];

impl Mechanism {
    /// The mechanism of this name, in any case.
    pub fn parse(name: &str) -> Option<Mechanism> {
        ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(mechanism, _)| *mechanism)
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(mechanism, _)| *mechanism == self).map_or("", |(_, name)| name)
    }
}

/// What the connection itself gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// No TLS.
    #[default]
    Plain,
    /// TLS.
    Tls {
        /// The channel binding `tls-exporter` (RFC 9266): 32 bytes that both ends draw from the TLS keys. `None` when
        /// the version of TLS has none that is unique.
        exporter: Option<[u8; 32]>,
        /// Whom the verified certificate of the client names, if it sent one.
        certificate: Option<Box<str>>,
    },
}

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether a client must log in before it may send.
    pub required: bool,
    /// Whether it may do so without TLS, where everybody on the way can read what it says.
    pub without_tls: bool,
}

impl Terms {
    /// The mechanisms that are offered on `channel`, in the order in which they are announced.
    pub fn offered(self, channel: &Channel) -> Vec<Mechanism> {
        ALL.iter().map(|(mechanism, _)| *mechanism).filter(|one| self.offers(*one, channel)).collect()
    }

    /// Whether `mechanism` is offered on `channel`.
    pub fn offers(self, mechanism: Mechanism, channel: &Channel) -> bool {
        match (channel, mechanism) {
            (Channel::Plain, Mechanism::ScramSha256Plus | Mechanism::External) => false,
            (Channel::Plain, _) => self.without_tls,
            (Channel::Tls { exporter, .. }, Mechanism::ScramSha256Plus) => exporter.is_some(),
            (Channel::Tls { certificate, .. }, Mechanism::External) => certificate.is_some(),
            (Channel::Tls { .. }, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn only_what_works_is_offered() {
        let names = |terms: Terms, channel: &Channel| {
            terms.offered(channel).into_iter().map(Mechanism::name).collect::<Vec<_>>()
        };
        let strict = Terms::default();
        let lax = Terms { without_tls: true, ..strict };
        assert!(names(strict, &Channel::Plain).is_empty());
        assert_eq!(names(lax, &Channel::Plain), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
        let bare = Channel::Tls { exporter: None, certificate: None };
        assert_eq!(names(strict, &bare), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
        let full = Channel::Tls { exporter: Some([1; 32]), certificate: Some("a".into()) };
        let all = vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN", "LOGIN"];
        assert_eq!(names(strict, &full), all);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for (mechanism, name) in ALL {
            assert_eq!(Mechanism::parse(name), Some(mechanism));
            assert_eq!(Mechanism::parse(&name.to_ascii_lowercase()), Some(mechanism));
            assert_eq!(mechanism.name(), name);
        }
        assert_eq!(Mechanism::parse("CRAM-MD5"), None);
    }
}
