//! TLS to PostgreSQL: what the settings say of it, made into what a connection needs.
//!
//! `settings` makes a [`Tls`] from the options of the database URL; whoever connects calls
//! [`Tls::read`], once in its process, and hands the result on. That reads files and asks the
//! system for its authorities, so it belongs into a process that does not fork.
//! Promises: one line for every file that is no good, with its path; no piece of a key in it. Does
//! not know any server; which certificates are believed stands in `trust`.
//! Source: libpq, "SSL Support".

mod trust;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use trust::Trust;

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whom we take for the server.
    pub verify: Verify,
    /// What we show the server of ourselves.
    pub identity: Option<Identity>,
}

/// Whom we take for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// Whoever answers (`sslmode=require`).
    Nothing,
    /// Whoever has a certificate of these authorities (`sslmode=verify-ca`).
    Authority(Roots),
    /// Whoever has a certificate of these authorities for this name (`sslmode=verify-full`).
    Name(Roots),
}

/// The authorities that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// A client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, open to nobody else.
    pub key: PathBuf,
}

/// What is wrong with a file. The texts end with what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{option} {path}: {reason}; give a PEM file")]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words, or the format's.
        reason: String,
    },
    /// The key of a client is not its own.
    #[error(
        "sslkey {path} is open to other users (mode {mode:04o}); chmod it to 0600, or 0640 when root owns it"
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("sslcert and sslkey are no pair that can be used ({0}); give those of one certificate")]
    BadIdentity(rustls::Error),
    /// The system has no authorities.
    #[error(
        "this system believes no certificate; install ca-certificates, or give sslrootcert=FILE"
    )]
    NoRoots,
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

impl Tls {
    /// Reads the files. To be called where no fork follows.
    ///
    /// # Errors
    /// The first file that is no good.
    pub fn read(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let trust = self.verify.read(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) = identity.read()?;
                builder.with_client_auth_cert(certificates, key).map_err(TlsError::BadIdentity)?
            }
        };
        // PostgreSQL resumes no session, and asks for this name where TLS begins at once.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Verify {
    fn read(&self, provider: &CryptoProvider) -> Result<Trust, TlsError> {
        let roots = match self {
            Self::Nothing => None,
            Self::Authority(roots) | Self::Name(roots) => Some(roots.read()?),
        };
        Ok(Trust {
            roots,
            verifies_name: matches!(self, Self::Name(_)),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl Roots {
    fn read(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        match self {
            // One that cannot be read among many keeps nobody from the others.
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                if store.add_parsable_certificates(found.certs).0 == 0 {
                    return Err(TlsError::NoRoots);
                }
            }
            Self::File(path) => {
                for certificate in certificates("sslrootcert", path)? {
                    let bad = |_| "a certificate in it is not well formed".to_owned();
                    let added = store.add(certificate).map_err(bad);
                    added.map_err(|reason| unreadable("sslrootcert", path, reason))?;
                }
            }
        }
        Ok(store)
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let Self { certificate, key: path } = self;
        let certificates = certificates("sslcert", certificate)?;
        let of_key =
            |error: PemError| unreadable("sslkey", path, words(&error, "key without a password"));
        let metadata = fs::metadata(path).map_err(|error| of_key(PemError::Io(error)))?;
        let mode = metadata.permissions().mode() & 0o777;
        if is_open(mode, metadata.uid()) {
            return Err(TlsError::OpenKey { path: path.clone(), mode });
        }
        Ok((certificates, PrivateKeyDer::from_pem_file(path).map_err(of_key)?))
    }
}

/// Whether others may use a key, as libpq has it: the group may read what root has put there.
fn is_open(mode: u32, owner: u32) -> bool {
    let closed = if owner == 0 { 0o037 } else { 0o077 };
    mode & closed != 0
}

/// All certificates of a PEM file; one at least.
fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error: PemError| unreadable(option, path, words(&error, "certificate"));
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match certificates.is_empty() {
        true => Err(failed(PemError::NoItemsFound)),
        false => Ok(certificates),
    }
}

fn unreadable(option: &'static str, path: &Path, reason: String) -> TlsError {
    TlsError::Unreadable { option, path: path.to_owned(), reason }
}

/// Never a piece of the file, as some of the format's own words are.
fn words(error: &PemError, wanted: &str) -> String {
    match error {
        PemError::Io(error) if error.kind() != io::ErrorKind::InvalidData => error.to_string(),
        PemError::NoItemsFound => format!("no {wanted} is in it"),
        _ => "it is not well formed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn refused(verify: Verify, identity: Option<Identity>) -> String {
        Tls { verify, identity }.read().unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_is_no_good_is_told_by_its_name_and_never_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let pem = |content: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
        };
        let begun = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n";
        for (path, reason) in [
            (folder.path().join("missing"), "No such file"),
            (write("empty", "secret"), "no certificate is in it; give a PEM file"),
            (write("not-base64", &pem("secret!")), "it is not well formed; give a PEM file"),
            (write("no-end", begun), "it is not well formed"),
            (write("no-certificate", &pem("c2VjcmV0")), "a certificate in it is not well formed"),
        ] {
            let told = refused(Verify::Name(Roots::File(path.clone())), None);
            assert!(told.starts_with(&format!("sslrootcert {}: ", path.display())), "{told}");
            assert!(told.contains(reason) && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("certificate");
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&certificate, text).unwrap();
        let key = folder.path().join("key");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let identity = || Some(Identity { certificate: certificate.clone(), key: key.clone() });
        let told = refused(Verify::Nothing, identity());
        assert!(told.contains("is open to other users (mode 0644); chmod it to 0600"), "{told}");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let told = refused(Verify::Nothing, identity());
        assert!(
            told.ends_with("key: no key without a password is in it; give a PEM file"),
            "{told}"
        );
    }

    #[test]
    fn a_group_may_read_only_what_root_has_put_there() {
        let (root, ann) = (0, 1000);
        for (mode, owner, is_closed) in [
            (0o600, root, true),
            (0o640, root, true),
            (0o660, root, false),
            (0o650, root, false),
            (0o644, root, false),
            (0o600, ann, true),
            (0o400, ann, true),
            (0o640, ann, false),
            (0o604, ann, false),
        ] {
            assert_eq!(is_open(mode, owner), !is_closed, "{mode:04o} of {owner}");
        }
    }
}
