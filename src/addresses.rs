//! Addresses: where a request comes from, also through proxies, and which of them are one site's.
//!
//! `login_limits` asks, and `serving` for the traces. The settings hold the [`Network`]s whose proxies are
//! believed.
//! Promises: nobody but a trusted proxy is believed about an address. Of the list that the proxies
//! wrote the last entry counts that is none of them: what stands before it may be made up. Where
//! the list ends in something that is no address, or two lists tell different ones, the proxy
//! itself is taken for the client, so that a made-up header never gives a new address. Who comes by a unix
//! socket has no address: all of them are one client, unless the proxy there is believed.
//! Does not know: names of hosts.
//! Source: RFC 7239 (`Forwarded`); `X-Forwarded-For` as proxies write it; RFC 4291 section 2.5.4 (a
//! site has a /64, so what is below is one client's choice).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Once;

use tracing::warn;
use worker::Context;
use worker::header::HeaderMap;

/// `10.0.0.0/8`, or one address; or `unix:`, whoever comes by a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Those whose first bits are these.
    Of {
        /// One of them.
        address: IpAddr,
        /// How many bits.
        bits: u8,
    },
    /// Nobody who has an address.
    UnixSocket,
}

impl Network {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "unix:" {
            return Some(Self::UnixSocket);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits.map_or(Some(bits_max), |bits| Some(bits).filter(is_number)?.parse().ok());
        bits.filter(|bits| *bits <= bits_max).map(|bits| Self::Of { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let Self::Of { address: one, bits } = *self else { return false };
        let differ = match (one, address) {
            (IpAddr::V4(ours), IpAddr::V4(it)) => u128::from(ours.to_bits() ^ it.to_bits()) << 96,
            (IpAddr::V6(ours), IpAddr::V6(it)) => ours.to_bits() ^ it.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(bits)
    }
}

/// Whom a request comes from: the peer, or whom trusted proxies have named. `None`: whoever came by a unix
/// socket. The first time that a proxy whom nobody trusts names somebody, the log of this process says so.
pub fn client<A>(cx: &Context<A>, trusted: &[Network]) -> Option<IpAddr> {
    static WARNED: Once = Once::new();
    let peer = cx.peer().map(|peer| peer.to_canonical());
    if is_told_in_vain(peer, cx.headers(), trusted) {
        let from = peer.map_or("unix:".to_owned(), |peer| peer.to_string());
        WARNED.call_once(|| warn!(peer = from, request_id = cx.request_id(), "{IN_VAIN}"));
    }
    named(peer, cx.headers(), trusted)
}

/// For operators, before one client of theirs has all others refused.
const IN_VAIN: &str = "X-Forwarded-For came from an address that is not in --trusted-proxies: all \
    that comes from there counts as one client; if it is your proxy, name it";

fn is_told_in_vain(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> bool {
    let is_told = READERS.iter().any(|(header, _)| headers.contains_key(*header));
    is_told && !is_trusted(peer, trusted)
}

/// Whether the word of who is there counts; `None` is at a unix socket.
pub fn is_trusted(peer: Option<IpAddr>, trusted: &[Network]) -> bool {
    match peer {
        Some(address) => trusted.iter().any(|network| network.contains(address.to_canonical())),
        None => trusted.contains(&Network::UnixSocket),
    }
}

/// All addresses that one client can choose among, as one.
pub fn site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Reads an address from an entry of a header.
type Reader = fn(&str) -> Option<IpAddr>;

/// The headers in which proxies tell whom they ask for.
const READERS: [(&str, Reader); 2] =
    [("x-forwarded-for", node), ("forwarded", |entry| node(parameter(entry, "for")?))];

fn named(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let last_foreign = |header: &str, read: Reader| {
        let entries = entries(headers, header)?;
        let foreign = entries.iter().rev().map(|entry| read(entry));
        foreign
            .into_iter()
            .find(|address| address.is_none_or(|one| !is_trusted(Some(one), trusted)))?
    };
    // A proxy writes one of the two, and may hand on the other as the client made it up: one that is there
    // and names nobody is no reason to believe the other.
    let there = READERS.into_iter().filter(|(header, _)| headers.contains_key(*header));
    let told: Vec<Option<IpAddr>> =
        there.map(|(header, read)| last_foreign(header, read)).collect();
    match told[..] {
        [Some(only)] => Some(only),
        [Some(old), Some(new)] if old == new => Some(old),
        _ => peer,
    }
}

/// The entries of a header, over all its lines; none where one is no text.
fn entries(headers: &HeaderMap, name: &str) -> Option<Vec<String>> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().ok());
    let text = lines.collect::<Option<Vec<&str>>>()?.join(",");
    Some(text.split(',').map(|entry| entry.trim().to_owned()).collect())
}

/// A parameter of an entry of `Forwarded`, without its quotes.
fn parameter<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address, also in brackets, also with a port.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    address.or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use worker::header::{HeaderName, HeaderValue};

    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_own_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "127.0.0.1"),
        ] {
            assert!(network(text).contains(address(inside)), "{text} {inside}");
            assert!(!network(text).contains(address(outside)), "{text} {outside}");
        }
        for text in ["", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "a/8", "10.0.0.0/8/8"]
        {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_clients() {
        let trusted = [network("10.0.0.0/8"), network("fd00::/8")];
        let client = |peer: &str, lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append(HeaderName::from_static(name), value);
            }
            named(Some(address(peer)), &headers, &trusted).unwrap().to_string()
        };
        let xff = "x-forwarded-for";
        for (peer, lines, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("203.0.113.1", &[(xff, "192.0.2.1")], "203.0.113.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "198.51.100.9, 192.0.2.1 , 10.0.0.2")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "198.51.100.9"), (xff, "192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "10.0.0.3, 10.0.0.2")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1:4711")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "2001:db8::1")], "2001:db8::1"),
            ("10.0.0.1", &[(xff, "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", &[(xff, "::ffff:192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1;proto=https")], "192.0.2.1"),
            ("10.0.0.1", &[("forwarded", "For=x, by=a; FOR=\"[2001:db8::1]:47\"")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1, for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1"), ("forwarded", "for=192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1"), ("forwarded", "for=198.51.100.9")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "unknown"), ("forwarded", "for=192.0.2.1")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "unix:"), ("forwarded", "for=192.0.2.1")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "10.0.0.2"), ("forwarded", "for=192.0.2.1")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "192.0.2.1"), ("forwarded", "for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "é, 192.0.2.1")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "é, 192.0.2.1"), ("forwarded", "for=198.51.100.9")], "10.0.0.1"),
            ("fd00::1", &[(xff, "192.0.2.1, fd00::2")], "192.0.2.1"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_proxy_whom_nobody_trusts_is_noticed() {
        let trusted = [network("10.0.0.0/8")];
        let is_noticed = |peer: Option<&str>, name: Option<&'static str>| {
            let names = name.map(HeaderName::from_static).into_iter();
            let headers = names.map(|name| (name, HeaderValue::from_static("192.0.2.1"))).collect();
            is_told_in_vain(peer.map(address), &headers, &trusted)
        };
        assert!(is_noticed(Some("203.0.113.1"), Some("x-forwarded-for")));
        assert!(is_noticed(Some("203.0.113.1"), Some("forwarded")));
        assert!(!is_noticed(Some("203.0.113.1"), None), "who asks for themselves");
        assert!(!is_noticed(Some("10.0.0.1"), Some("x-forwarded-for")), "a trusted proxy");
        assert!(is_noticed(None, Some("x-forwarded-for")), "by a unix socket");
    }

    #[test]
    fn a_unix_socket_s_proxy_is_believed_only_where_it_is_listed() {
        let mut headers = HeaderMap::new();
        let forwarded = "192.0.2.1, 10.0.0.1";
        headers.append("x-forwarded-for", HeaderValue::from_static(forwarded));
        let everybody = [network("0.0.0.0/0"), network("::/0")];
        assert_eq!(named(None, &headers, &everybody), None, "it has no address");
        let proxies = [network("unix:"), network("10.0.0.0/8")];
        assert_eq!(named(None, &headers, &proxies), Some(address("192.0.2.1")));
        let stranger = Some(address("203.0.113.1"));
        assert_eq!(named(stranger, &headers, &proxies), stranger);
        assert_eq!(named(None, &HeaderMap::new(), &proxies), None);
        assert!(Network::parse("unix:/run/x").is_none());
    }

    #[test]
    fn who_is_trusted_is_named() {
        let trusted = [network("10.0.0.0/8"), network("unix:")];
        for (peer, is_named) in [("10.0.0.1", true), ("::ffff:10.0.0.1", true), ("11.0.0.1", false)]
        {
            assert_eq!(is_trusted(Some(address(peer)), &trusted), is_named, "{peer}");
        }
        assert!(is_trusted(None, &trusted) && !is_trusted(None, &trusted[..1]));
    }

    #[test]
    fn a_site_is_one_client() {
        assert_eq!(site(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(site(address("192.0.2.1")), address("192.0.2.1"));
    }
}
