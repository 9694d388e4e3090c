//! TLS of probes and hooks: encrypted, and not verified, as the kubelet has it (`InsecureSkipVerify` in
//! `pkg/probe/http/http.go`).

use std::io;
use std::sync::{Arc, LazyLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::connection::Connection;

/// What Go says when an HTTP server is asked for TLS. A hook goes on without TLS then.
pub(super) const ANSWERED_IN_HTTP: &str = "http: server gave HTTP response to HTTPS client";

/// TLS 1.2 and 1.3; made when the first probe needs it.
static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
});

/// Begins TLS; a host that is a name is told to the server (SNI).
///
/// # Errors
/// In Go's words.
pub(super) async fn handshake(connection: Connection, host: &str) -> Result<TlsStream<Connection>, String> {
    let config = CONFIG.as_ref().map_err(|error| format!("tls: {error}"))?.clone();
    // A server need not be told a name that is none by TLS's rules.
    let address = ServerName::from(connection.remote().ip());
    let name = ServerName::try_from(host.to_owned()).unwrap_or(address);
    let handshake = TlsConnector::from(config).connect(name, connection).into_fallible();
    handshake.await.map_err(|(error, connection)| explain(&error, &connection))
}

fn explain(error: &io::Error, connection: &Connection) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) if connection.has_answered_in_http() => {
            ANSWERED_IN_HTTP.to_owned()
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(error) => format!("tls: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// Trusts everybody.
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
