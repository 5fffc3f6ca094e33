//! Certificates as operators make them: an authority of a test's own, and what it has signed.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority that nobody believes who was not told to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// For those who are to believe it: PEM.
    pub(crate) certificate: String,
}

/// What a server or a client shows of itself: PEM.
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// Whom a server believes about its clients.
    pub(crate) authority: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("the system is random");
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a key can sign").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for `name`, which is good for a host of any of `hosts`.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str]) -> Shown {
        let key = KeyPair::generate().expect("the system is random");
        let signed = named(name, hosts).signed_by(&key, &self.issuer).expect("a key can sign");
        Shown {
            certificate: signed.pem(),
            key: key.serialize_pem(),
            authority: self.certificate.clone(),
        }
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
