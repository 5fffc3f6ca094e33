//! `report.json` on the disk.
//!
//! Written by the conductor, read by `compare`, `recommend` and whatever shows a report again. It
//! promises that what it has written can be read, that a reader never sees half a file, and that
//! what it has read is of this format and points to no server that is not in it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::{FORMAT, Report};

/// Longer than any report of a day.
const LENGTH_MAX_BYTES: u64 = 256 << 20;

/// Why a report could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: is longer than a report can be ({LENGTH_MAX_BYTES} bytes)", path.display())]
    Long { path: PathBuf },
    #[error("{}: is not a report: {source}; give the report.json of a run", path.display())]
    NotReport { path: PathBuf, source: serde_json::Error },
    #[error(
        "{}: is of format {found}, this program reads {FORMAT}; use the version that wrote it",
        path.display()
    )]
    OtherFormat { path: PathBuf, found: u32 },
    #[error("{}: a run is of a server that the report does not have", path.display())]
    Damaged { path: PathBuf },
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the report holds a number that is none: {0}")]
    NotNumber(serde_json::Error),
}

/// What can be told of any format.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Reads one.
pub(crate) fn read(path: &Path) -> Result<Report, FileError> {
    let own = || path.to_owned();
    let text = read_text(path).map_err(|source| FileError::Read { path: own(), source })?;
    if text.len() as u64 > LENGTH_MAX_BYTES {
        return Err(FileError::Long { path: own() });
    }
    let not_report = |source| FileError::NotReport { path: own(), source };
    let Head { format: found } = serde_json::from_slice(&text).map_err(not_report)?;
    if found != FORMAT {
        return Err(FileError::OtherFormat { path: own(), found });
    }
    let report: Report = serde_json::from_slice(&text).map_err(not_report)?;
    let servers = report.series.len();
    let mut named = report.runs.iter().map(|run| run.series);
    if named.all(|series| series < servers) {
        Ok(report)
    } else {
        Err(FileError::Damaged { path: own() })
    }
}

/// Writes one, whole or not at all.
pub(crate) fn write(path: &Path, report: &Report) -> Result<(), FileError> {
    let text = serde_json::to_vec(report).map_err(FileError::NotNumber)?;
    // A number that is none becomes `null`, which no reader takes.
    serde_json::from_slice::<Report>(&text).map_err(FileError::NotNumber)?;
    replace(path, &text)
}

/// Writes a file, whole or not at all.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), FileError> {
    let sibling = sibling(path);
    let written = write_whole(&sibling, text).and_then(|()| fs::rename(&sibling, path));
    written.map_err(|source| {
        // It may not even exist; the first error says why.
        let _ = fs::remove_file(&sibling);
        FileError::Write { path: path.to_owned(), source }
    })
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LENGTH_MAX_BYTES + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// In the same folder, so that renaming is one step; of this process only.
fn sibling(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::made;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read_again_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = made::ladder(&[(1, 2500.0), (2, 4700.0)]);
        write(&path, &report).unwrap();
        write(&path, &report).unwrap();
        let again = read(&path).unwrap();
        assert_eq!((&again.card, &again.series), (&report.card, &report.series));
        let counted = |report: &Report| report.runs.iter().map(|run| run.traffic.ok).sum::<u64>();
        assert_eq!(counted(&again), counted(&report));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_report_of_another_format_is_refused_whatever_else_it_holds() {
        let (_folder, path) = written(r#"{"format":2,"all":"else"}"#);
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("is of format 2, this program reads 1; use the version that wrote it")
        );
    }

    #[test]
    fn what_is_no_report_is_told_with_its_path() {
        for text in ["", "hello", "[]", "{}", r#"{"format":1}"#] {
            let (_folder, path) = written(text);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("report.json: is not a report: "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = read(Path::new("/nowhere/report.json")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/report.json: cannot be read: "), "{error}");
    }

    #[test]
    fn a_run_of_no_server_is_refused() {
        let mut report = made::ladder(&[(1, 2500.0)]);
        report.runs[0].series = 7;
        let (_folder, path) = written(&serde_json::to_string(&report).unwrap());
        assert!(matches!(read(&path), Err(FileError::Damaged { .. })));
    }

    #[test]
    fn a_number_that_is_none_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = made::ladder(&[(1, 2500.0)]);
        report.runs[0].cpu.busy = f64::NAN;
        let error = write(&folder.path().join("report.json"), &report).unwrap_err();
        assert!(matches!(error, FileError::NotNumber(_)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let error = write(Path::new("/nowhere/report.json"), &made::ladder(&[])).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/report.json: cannot be written: "));
    }
}
