//! Where the API listens: an address with a port, or a file.
//!
//! Chosen by the application, kept in [`crate::Config`], shown to people as they write it. Opens nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An address with a port, or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bind {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// All workers accept from one socket there.
    Unix(PathBuf),
}

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_out_is_read_as_the_same() {
        for (bind, shown) in [
            (Bind::Tcp("127.0.0.1:8000".parse().unwrap()), "127.0.0.1:8000"),
            (Bind::Tcp("[::1]:0".parse().unwrap()), "[::1]:0"),
            (Bind::Unix("/run/peace/api.sock".into()), "unix:/run/peace/api.sock"),
        ] {
            let text = serde_json::to_string(&bind).unwrap();
            assert_eq!(serde_json::from_str::<Bind>(&text).unwrap(), bind);
            assert_eq!(bind.to_string(), shown);
        }
    }
}
