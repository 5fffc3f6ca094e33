//! What development makes for itself, and production has to be given: a database and a secret.
//!
//! Called by `main` before anything is forked. Everything is kept under `.peace/` of the current
//! folder, which git ignores (as root the database's files are elsewhere, see [`crate::embedded`]).

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use secrecy::SecretString;

const FOLDER: &str = ".peace";

/// The secret that signs this folder's development tokens: made once, then read. 32 bytes in hex,
/// from the kernel's generator.
///
/// # Errors
/// When the file can be neither read nor made; the text says which, and how to do without.
pub fn jwt_secret() -> io::Result<SecretString> {
    jwt_secret_in(Path::new(FOLDER)).map_err(|error| {
        let text = format!("cannot make {FOLDER}/jwt-secret: {error}: set JWT_SECRET_KEY");
        io::Error::new(error.kind(), text)
    })
}

fn jwt_secret_in(folder: &Path) -> io::Result<SecretString> {
    let path = folder.join("jwt-secret");
    match fs::read_to_string(&path) {
        Ok(secret) if secret.trim().len() >= 32 => return Ok(secret.trim().into()),
        // What is too short was interrupted while it was written.
        Ok(_) => fs::remove_file(&path)?,
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
        Err(refused) => return Err(refused),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let secret = random_hex()?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(secret.as_bytes())?;
    Ok(secret.into())
}

/// Straight from the kernel: a generator of this process would be copied into every worker.
fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("peace");
        let made = jwt_secret_in(&home).unwrap();
        assert_eq!(made.expose_secret().len(), 64);
        assert_eq!(jwt_secret_in(&home).unwrap().expose_secret(), made.expose_secret());
        let mode = fs::metadata(home.join("jwt-secret")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_interrupted_secret_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jwt-secret"), "short").unwrap();
        assert_eq!(jwt_secret_in(folder.path()).unwrap().expose_secret().len(), 64);
    }
}
