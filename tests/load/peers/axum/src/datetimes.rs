//! Datetimes as Peace writes them: `2024-12-12T13:25:00`, with six digits of microseconds unless they
//! are zero.

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serializer;

/// This moment in UTC.
pub(crate) fn now() -> DateTime {
    Timestamp::now().to_zoned(TimeZone::UTC).datetime()
}

/// For `#[serde(serialize_with)]`.
pub(crate) fn serialize<S: Serializer>(at: &DateTime, serializer: S) -> Result<S::Ok, S::Error> {
    match at.subsec_nanosecond() {
        0 => serializer.collect_str(at),
        _ => serializer.collect_str(&format_args!("{at:.6}")),
    }
}
