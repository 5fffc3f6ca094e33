//! Swagger UI's files, out of the archive in which a crate holds them.
//!
//! `docs` asks for each by its path in Swagger UI's repository.
//! Promises: nothing is unpacked to be sent as gzip, since what a zip archive keeps of a file is the same
//! stream between another head and tail. Does not know: where a file is served.
//! Source: RFC 1952 section 2.3, the ZIP file format specification.

use rawzip::{CompressionMethod, ZipArchive};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

use super::served::Served;

/// Deflated, without a name, a time or a system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// One file.
///
/// # Panics
/// When the archive has no such file: `tests` asks for each that is served.
pub(super) fn file(path: &str, media_type: &'static str) -> Served {
    find(path, media_type).unwrap_or_else(|| panic!("Swagger UI has no file {path}"))
}

fn find(path: &str, media_type: &'static str) -> Option<Served> {
    let archive = ZipArchive::from_slice(ARCHIVE).ok()?;
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().ok()? {
        // Behind a folder that is named as the version.
        let place = entry.file_path();
        let name = str::from_utf8(place.as_ref()).ok().and_then(|name| name.split_once('/'));
        if name.is_none_or(|(_, name)| name != path) {
            continue;
        }
        let data = archive.get_entry(entry.wayfinder()).ok()?;
        let (sum, length) = (entry.crc32(), entry.uncompressed_size_hint() as u32);
        let tail = [sum.to_le_bytes(), length.to_le_bytes()].concat();
        return Some(match entry.compression_method() {
            CompressionMethod::STORE => Served::new(media_type, data.data().to_vec()),
            _ => Served::packed(media_type, [&GZIP_HEAD, data.data(), &tail].concat()),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_out_as_it_went_in() {
        for (path, begin) in [
            ("NOTICE", "swagger-ui\n"),
            ("dist/swagger-ui.css", ".swagger-ui"),
            ("dist/swagger-ui-bundle.js", "/*! For license information"),
        ] {
            let served = file(path, "text/plain");
            let plain = served.representation(false, false).bytes;
            assert!(plain.starts_with(begin.as_bytes()), "{path}: {:?}", &plain[..30]);
            let packed = served.representation(true, false).bytes;
            assert!(packed.len() < plain.len() || path == "NOTICE", "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert!(find("dist/none.js", "text/plain").is_none());
    }
}
