//! Which certificates of a server are believed.
//!
//! rustls calls it in every handshake; it calls rustls' own checks, and leaves out those that
//! `sslmode` leaves out. Promises: a server without the key of the certificate that it shows is
//! never believed, however little is verified; a refusal is one line that ends with how to mend it.
//! Does not know: files.
//! Source: libpq, "Protection Provided in Different Modes".

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// What a certificate has to be.
#[derive(Debug)]
pub(super) struct Trust {
    /// Signed by one of these; `None`: by anybody.
    pub(super) roots: Option<RootCertStore>,
    /// For the name that was connected to.
    pub(super) verifies_name: bool,
    /// What it and the handshake may be signed with.
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let verify = || {
            let shown = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &shown,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
            if self.verifies_name { verify_server_name(&shown, server_name) } else { Ok(()) }
        };
        verify().map(|()| ServerCertVerified::assertion()).map_err(in_words)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms).map_err(in_words)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms).map_err(in_words)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a certificate is not believed.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate {what}: {mend}")]
struct Distrust {
    what: String,
    mend: &'static str,
}

/// The library's verdict, with what to do about it.
fn in_words(error: Error) -> Error {
    let Error::InvalidCertificate(verdict) = error else { return error };
    let (what, mend) = match &verdict {
        CertificateError::UnknownIssuer => {
            ("has no known issuer".to_owned(), "give the authority's file as sslrootcert")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            (format!("is for {names}, not {}", expected.to_str()), "connect by a name of it")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired".to_owned(), "renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), "set the clock")
        }
        // Of version 1, or an authority's own.
        other => (
            format!("is of no use ({other})"),
            "make one of version 3, with subjectAltName, that is no authority's",
        ),
    };
    Error::Other(OtherError(Arc::new(Distrust { what, mend })))
}

/// A name as people write it: the library says `DnsName("db.example")`.
fn bare(name: &str) -> &str {
    name.split(['"', '(', ')']).filter(|part| !part.is_empty()).nth(1).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("db.example").unwrap(),
            presented: vec!["DnsName(\"pg.test\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()],
        };
        for (verdict, words) in [
            (name, "is for pg.test, 10.0.0.1, not db.example: connect by a name of it"),
            (CertificateError::UnknownIssuer, "give the authority's file as sslrootcert"),
            (CertificateError::Expired, "has expired: renew it"),
            (CertificateError::NotValidYet, "is not valid yet: set the clock"),
            (CertificateError::BadEncoding, "is of no use (BadEncoding): make one of version 3"),
        ] {
            let said = in_words(Error::InvalidCertificate(verdict)).to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
