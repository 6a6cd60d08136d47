//! TLS on a connection: bytes sealed and unsealed in memory, so that the sockets stay the engine's.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, HandshakeKind, ServerConfig,
    ServerConnection, SignatureScheme,
};
use serde::Serialize;

/// The name in the certificate of a sink.
const SINK_NAME: &str = "sink.example";
/// What a channel may keep back of a record that has not come in full, with room for its header and tag.
pub(crate) const RECORD_BYTES_MAX: usize = 18 * 1024;

/// How connections are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// By the command STARTTLS (RFC 3207).
    #[value(name = "starttls")]
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What an engine needs to secure its connections.
#[derive(Clone)]
pub(crate) struct Security {
    party: Party,
    /// Every connection starts with a handshake.
    pub(crate) implicit: bool,
}

#[derive(Clone)]
enum Party {
    Client(Arc<ClientConfig>, ServerName<'static>),
    Server(Arc<ServerConfig>),
}

impl Security {
    /// For connections to `target`. Whose certificate it shows does not matter; that it holds the key does.
    /// Without `resumption` every connection pays for a full handshake.
    pub(crate) fn client(mode: Tls, target: IpAddr, resumption: bool) -> io::Result<Option<Self>> {
        if mode == Tls::Off {
            return Ok(None);
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let verifier = Arc::new(AnyCertificate(provider));
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        if !resumption {
            config.resumption = Resumption::disabled();
        }
        let party = Party::Client(Arc::new(config), ServerName::from(target));
        Ok(Some(Self { party, implicit: mode == Tls::Implicit }))
    }

    /// For a sink, with a certificate made now.
    pub(crate) fn server(mode: Tls) -> io::Result<Option<Self>> {
        if mode == Tls::Off {
            return Ok(None);
        }
        let signed =
            rcgen::generate_simple_self_signed(vec![SINK_NAME.to_string()]).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).map_err(io::Error::other)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let builder = builder.with_no_client_auth();
        let chain = vec![signed.cert.der().clone()];
        let mut config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
        // Tickets without state, so that any number of clients can resume.
        config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
        Ok(Some(Self { party: Party::Server(Arc::new(config)), implicit: mode == Tls::Implicit }))
    }

    /// A channel whose handshake has not begun.
    pub(crate) fn channel(&self) -> io::Result<Channel> {
        let connection = match &self.party {
            Party::Client(config, name) => {
                ClientConnection::new(config.clone(), name.clone()).map(Connection::from)
            }
            Party::Server(config) => ServerConnection::new(config.clone()).map(Connection::from),
        };
        let mut connection = connection.map_err(io::Error::other)?;
        // What waits is bounded by what the drivers say before they read again.
        connection.set_buffer_limit(None);
        Ok(Channel { connection, secured: false })
    }
}

/// The TLS state of one connection.
pub(crate) struct Channel {
    connection: Connection,
    /// The end of the handshake was told.
    secured: bool,
}

/// What came out of a piece of cipher text.
pub(crate) struct Unsealed {
    /// Bytes of plain text.
    pub(crate) bytes: usize,
    /// The handshake ended just now; true if an earlier session was resumed.
    pub(crate) secured: Option<bool>,
    /// The peer says no more.
    pub(crate) ended: bool,
}

impl Channel {
    /// Encrypts `plain`, behind what the handshake has to say. Before its end plain text only queues up.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        self.connection.writer().write_all(plain)?;
        while self.connection.wants_write() {
            self.connection.write_tls(sealed)?;
        }
        Ok(())
    }

    /// Queues the notice that nothing more will be said.
    pub(crate) fn finish(&mut self) {
        self.connection.send_close_notify();
    }

    /// Decrypts `sealed` into `plain`, which must be longer by [`RECORD_BYTES_MAX`]. After an error there may
    /// be an alert to seal.
    pub(crate) fn unseal(&mut self, mut sealed: &[u8], plain: &mut [u8]) -> io::Result<Unsealed> {
        let mut unsealed = Unsealed { bytes: 0, secured: None, ended: false };
        while !sealed.is_empty() && !unsealed.ended {
            if self.connection.read_tls(&mut sealed)? == 0 {
                break;
            }
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            unsealed.ended = state.peer_has_closed();
            let count = state.plaintext_bytes_to_read();
            let place = plain.get_mut(unsealed.bytes..unsealed.bytes + count);
            self.connection.reader().read_exact(place.ok_or(io::ErrorKind::OutOfMemory)?)?;
            unsealed.bytes += count;
        }
        if !self.secured && !self.connection.is_handshaking() {
            self.secured = true;
            unsealed.secured = Some(self.connection.handshake_kind() == Some(HandshakeKind::Resumed));
        }
        Ok(unsealed)
    }
}

/// Takes any certificate, but checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
