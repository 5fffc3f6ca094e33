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
        // One of the same name: an authority that was made anew.
        CertificateError::BadSignature => (
            "is signed with another key than its authority's".to_owned(),
            "give that authority's newest file as sslrootcert",
        ),
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
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::crypto::ring;

    use super::*;

    /// What `trust` says at a time about a certificate that a host shows.
    fn said(trust: &Trust, certificate: &CertificateDer<'_>, host: &str, at: UnixTime) -> String {
        let host = ServerName::try_from(host).unwrap();
        match trust.verify_server_cert(certificate, &[], &host, &[], at) {
            Ok(_) => "believed".to_owned(),
            Err(Error::Other(distrust)) => distrust.to_string(),
            Err(other) => panic!("{other}"),
        }
    }

    fn authority() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        (Issuer::new(params, key), certificate)
    }

    fn trust(root: &CertificateDer<'static>, verifies_name: bool) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Trust { roots: Some(roots), verifies_name, algorithms }
    }

    fn in_year(year: i32) -> UnixTime {
        let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds.unsigned_abs()))
    }

    #[test]
    fn a_certificate_is_believed_in_its_time_and_for_its_name() {
        let (issuer, root) = authority();
        let mut params = CertificateParams::new(vec!["pg.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2030, 1, 1);
        params.not_after = date_time_ymd(2031, 1, 1);
        let key = KeyPair::generate().unwrap();
        let shown = params.signed_by(&key, &issuer).unwrap().der().clone();
        let (full, chain_only) = (trust(&root, true), trust(&root, false));
        let other_name = "the server's certificate is for pg.test, not db.test: connect by a name";
        for (trust, host, year, expected) in [
            (&full, "pg.test", 2030, "believed"),
            (&full, "db.test", 2030, other_name),
            (&chain_only, "db.test", 2030, "believed"),
            (&full, "pg.test", 2032, "the server's certificate has expired: renew it"),
            (&chain_only, "pg.test", 2029, "is not valid yet: set the clock"),
        ] {
            let said = said(trust, &shown, host, in_year(year));
            assert!(said.contains(expected), "{host} in {year}: {said}");
        }
        let of_same_name = trust(&authority().1, false);
        let said = said(&of_same_name, &shown, "pg.test", in_year(2030));
        assert!(said.contains("is signed with another key than its authority's"), "{said}");
    }

    #[test]
    fn an_authority_is_no_server() {
        let (_, root) = authority();
        let said = said(&trust(&root, false), &root, "pg.test", in_year(2030));
        assert!(said.contains("CaUsedAsEndEntity") && said.contains("no authority's"), "{said}");
    }
}
