//! What is served as it is: bytes that are made once, and packed once.
//!
//! `docs` holds one for each page and file, and answers requests with it; it calls flate2.
//! Promises: a client gets gzip if it takes that, else the plain bytes; both have one weak entity tag,
//! since they mean the same. What is kept packed is unpacked when somebody first wants it so.
//! Source: RFC 9110 sections 8.8.3 (tags), 12.5.3 (`Accept-Encoding`).

use std::io::{Read, Write};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use worker::{EntityTag, Representation};

/// The media type of pages.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// Bytes of one media type, plain and packed.
pub(super) struct Served {
    media_type: &'static str,
    plain: OnceLock<Bytes>,
    packed: Bytes,
    etag: EntityTag,
}

impl Served {
    pub(super) fn new(media_type: &'static str, plain: impl Into<Bytes>) -> Self {
        let plain = plain.into();
        Self { plain: OnceLock::from(plain.clone()), ..Self::of(media_type, pack(&plain)) }
    }

    /// What is kept as gzip.
    pub(super) fn packed(media_type: &'static str, packed: impl Into<Bytes>) -> Self {
        Self::of(media_type, packed.into())
    }

    fn of(media_type: &'static str, packed: Bytes) -> Self {
        let sum = Sha256::digest(&packed);
        let digits: String = sum[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { media_type, plain: OnceLock::new(), packed, etag: EntityTag::weak(&digits) }
    }

    pub(super) fn representation(&self, packed: bool, is_known: bool) -> Representation {
        let bytes = match packed {
            true => self.packed.clone(),
            false => self.plain.get_or_init(|| unpack(&self.packed)).clone(),
        };
        let etag = self.etag.value().clone();
        Representation { media_type: self.media_type, etag, bytes, is_known }
    }

    /// Its entity tag.
    pub(super) fn etag(&self) -> &EntityTag {
        &self.etag
    }
}

/// Whether an `Accept-Encoding` names gzip, and not to refuse it.
pub(super) fn takes_gzip(codings: &str) -> bool {
    codings.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

fn pack(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("a vector takes everything").into()
}

/// What was packed by us, or by those who made an archive: tests unpack each of them.
fn unpack(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    let read = GzDecoder::new(packed).read_to_end(&mut plain);
    read.expect("it is gzip");
    plain.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_bytes_come_out_whichever_way_they_went_in() {
        let served = Served::new("text/css", "body {}");
        assert_eq!(served.representation(false, false).bytes, "body {}");
        let packed = served.representation(true, false).bytes;
        assert_ne!(packed, "body {}");
        assert_eq!(unpack(&packed), "body {}");
        let kept = Served::packed("text/css", packed.clone());
        assert_eq!(kept.representation(false, false).bytes, "body {}");
        assert_eq!(kept.etag, served.etag);
    }

    proptest! {
        #[test]
        fn gzip_is_sent_to_nobody_who_does_not_name_it(codings in any::<String>(), weight in 0_u16..=1000) {
            prop_assert!(!takes_gzip(&codings) || codings.to_lowercase().contains("gzip"));
            let weighted = format!("br, gzip;q={}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(takes_gzip(&weighted), weight > 0);
        }
    }

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        for codings in ["gzip", "br, gzip", "GZIP;q=0.5, identity", "deflate, gzip ; q=1.0"] {
            assert!(takes_gzip(codings), "{codings}");
        }
        for codings in ["", "br", "gzip;q=0", "identity, gzip; q=0.0", "gzip;q=x", "xgzip"] {
            assert!(!takes_gzip(codings), "{codings}");
        }
    }
}
