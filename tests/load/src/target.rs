//! Where a server is.

use std::net::{SocketAddr, ToSocketAddrs};

use hyper::Uri;

/// A server's address, and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The `Host` header.
    pub(crate) host: String,
    /// In front of every path: empty, or `/api`.
    pub(crate) prefix: String,
}

impl Target {
    pub(crate) fn local(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), prefix: String::new() }
    }

    /// Reads a URL and resolves its name.
    ///
    /// # Errors
    /// In one line.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--url '{url}': {why}, as http://127.0.0.1:8000");
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong("TLS is not spoken here: give the address behind the proxy"));
            }
            _ => return Err(wrong("write the scheme, too")),
        }
        if uri.query().is_some() {
            return Err(wrong("no query belongs to it"));
        }
        let host = uri.host().ok_or_else(|| wrong("no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("--url: no name and password belong to it".to_owned());
        }
        let found = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        let address = found.ok().and_then(|mut found| found.next());
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        Ok(Self {
            address: address.ok_or_else(|| wrong("no such host"))?,
            host: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The URL of its root, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_a_name_and_a_prefix() {
        let target = Target::parse("http://localhost:8000/api/").unwrap();
        assert_eq!((target.host.as_str(), target.prefix.as_str()), ("localhost:8000", "/api"));
        assert_eq!(target.address.port(), 8000);
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(Target::parse("http://[::1]:80/").unwrap().prefix, "");
    }

    #[test]
    fn what_cannot_be_measured_is_refused_in_one_line() {
        for url in [
            "127.0.0.1:8000",
            "https://127.0.0.1",
            "http://",
            "x",
            "http://h/?q",
            "http://a.invalid",
        ] {
            let refused = Target::parse(url).unwrap_err();
            assert!(refused.contains(url) && !refused.contains('\n'), "{refused}");
        }
        let refused = Target::parse("http://ann:secret@127.0.0.1").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
