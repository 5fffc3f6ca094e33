//! Datetimes, as clients of the Python template read and write them.
//!
//! Resources call it: [`DateTime`] is the rule for a field of a payload, [`UtcDateTime`] is what
//! the field, a column of type `timestamp` and a response hold. It calls jiff for the calendar.
//! Promises: out goes `2024-12-12T13:25:00`, with six digits of microseconds unless they are zero.
//! In comes `YYYY-MM-DD`, alone (midnight) or followed by `T`, `t`, `_` or a space, by
//! `HH:MM[:SS[.f…]]` (or a comma) and, if need be, by a zone (`Z`, `z`, `±HH:MM`, `±HHMM`), which
//! is converted to UTC; digits beyond microseconds are dropped. Everything else is a fault, and no
//! text makes it panic. Every row can be read: what a column holds beyond the years 1 to 9999 is
//! their first or their last moment.
//! Refused although pydantic 2 reads them: unix times, as numbers or as text (the template read
//! them with a zone that its column could not take, and answered 500); U+2212 for a minus sign;
//! what is outside the years 1 to 9999 once it is in UTC.
//! Does not know: names of zones, leap seconds, weeks and days of the year.
//! Source: RFC 3339 section 5.6, ISO 8601, the page on datetime types in pydantic's documentation.

use std::error::Error;
use std::{fmt, iter};

use bytes::BytesMut;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use worker::{Describe, Fault, Rule, Schema, Value};

/// For the API document.
const EXAMPLE: &str = "2024-12-12T13:25:00";

/// A moment as PostgreSQL's `timestamp` keeps it: in UTC, without a zone, in whole microseconds, of
/// the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDateTime(civil::DateTime);

impl UtcDateTime {
    /// This moment, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let now = Offset::UTC.to_datetime(Timestamp::now());
        Self(now - SignedDuration::from_nanos(now.nanosecond().into()))
    }
}

impl fmt::Display for UtcDateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Written::new(self.0).as_str())
    }
}

impl Describe for UtcDateTime {
    fn describe() -> Schema {
        Schema::Value(json!({
            "type": "string", "format": "date-time-local", "examples": [EXAMPLE],
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?$",
            "description": "A moment in UTC, without a zone.",
        }))
    }
}

impl Serialize for UtcDateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Written::new(self.0).as_str())
    }
}

/// A datetime as text. Lists are full of them, and a general printer takes several times as long.
/// Aligned, which makes it quick to see that it is ASCII.
#[repr(align(16))]
struct Written {
    text: [u8; 26],
    length: usize,
}

impl Written {
    fn new(moment: civil::DateTime) -> Self {
        let [y1, y2] = digits(moment.year().unsigned_abs() / 100);
        let [y3, y4] = digits(moment.year().unsigned_abs() % 100);
        let [m1, m2] = digits(moment.month().unsigned_abs().into());
        let [d1, d2] = digits(moment.day().unsigned_abs().into());
        let [h1, h2] = digits(moment.hour().unsigned_abs().into());
        let [n1, n2] = digits(moment.minute().unsigned_abs().into());
        let [s1, s2] = digits(moment.second().unsigned_abs().into());
        let microsecond = moment.subsec_nanosecond().unsigned_abs() / 1000;
        let [f1, f2] = digits((microsecond / 10_000) as u16);
        let [f3, f4] = digits((microsecond / 100 % 100) as u16);
        let [f5, f6] = digits((microsecond % 100) as u16);
        #[rustfmt::skip]
        let text = [
            y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2,
            b'.', f1, f2, f3, f4, f5, f6,
        ];
        Self { text, length: if microsecond == 0 { 19 } else { 26 } }
    }

    fn as_str(&self) -> &str {
        // Digits and the four marks between them.
        str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}

/// The two digits of a number below 100.
fn digits(number: u16) -> [u8; 2] {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[b'0'; 2]; 100];
        let mut number = 0;
        while number < 100 {
            pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
            number += 1;
        }
        pairs
    };
    PAIRS[usize::from(number)]
}

/// What PostgreSQL counts a `timestamp` from.
const EPOCH: civil::DateTime = civil::datetime(2000, 1, 1, 0, 0, 0, 0);
/// The same, in microseconds of the unix clock.
const EPOCH_UNIX_US: i64 = 946_684_800_000_000;
const FIRST: civil::DateTime = civil::datetime(1, 1, 1, 0, 0, 0, 0);
const LAST: civil::DateTime = civil::datetime(9999, 12, 31, 23, 59, 59, 999_999_000);

/// Not by way of jiff's, which fails on the last day of the year 9999: as the count of microseconds
/// that a `timestamp` is on the wire.
impl ToSql for UtcDateTime {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        i64::try_from(self.0.duration_since(EPOCH).as_micros())?.to_sql(ty, out)
    }

    accepts!(TIMESTAMP);
    to_sql_checked!();
}

/// A column may hold years that no client can read, and `-infinity` and `infinity`, which are the
/// least and the greatest count: for asyncpg, that is what Python's first and last moment become.
impl<'a> FromSql<'a> for UtcDateTime {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_epoch_us = i64::from_sql(ty, raw)?;
        let moment = Timestamp::from_microsecond(since_epoch_us.saturating_add(EPOCH_UNIX_US));
        let moment = moment.map(|moment| Offset::UTC.to_datetime(moment));
        // Nearly all; the rest are beyond what jiff's timestamps can be.
        let beyond = |_| EPOCH.saturating_add(SignedDuration::from_micros(since_epoch_us));
        Ok(Self(moment.unwrap_or_else(beyond).clamp(FIRST, LAST)))
    }

    accepts!(TIMESTAMP);
}

/// A datetime, with or without a zone.
#[derive(Debug, Clone, Copy)]
pub struct DateTime;

impl Rule for DateTime {
    type Output = UtcDateTime;

    fn check(&self, value: &Value<'_>) -> Result<UtcDateTime, Fault> {
        let text = value
            .text()
            .ok_or_else(|| Fault::new("datetime_type", "Input should be a valid datetime"))?;
        read(text).map(UtcDateTime).map_err(|why| {
            let msg = format!("Input should be a valid datetime or date, {why}");
            Fault::new("datetime_from_date_parsing", msg)
        })
    }

    fn describe(&self) -> Json {
        json!({
            "type": "string", "format": "date-time-local", "examples": [EXAMPLE],
            "description": "A moment, in UTC unless it has a zone; also without seconds, with a \
                space for the T, or as a day alone.",
        })
    }
}

/// What is wrong with a text, for its author.
type Reason = &'static str;

const FORM: Reason =
    "expected a form like 2024-12-12, 2024-12-12 13:25 or 2024-12-12T13:25:00.5+01:00";
const DAY: Reason = "there is no such day";
const TIME: Reason = "there is no such time of day";
const ZONE: Reason = "there is no such zone";
const YEAR: Reason = "only the years 1 to 9999 in UTC are supported";

fn read(text: &str) -> Result<civil::DateTime, Reason> {
    let (date, rest) = date(text.as_bytes())?;
    if rest.is_empty() {
        return Ok(date.into());
    }
    let (time, rest) = time(rest)?;
    let utc = date.to_datetime(time).checked_sub(zone(rest)?).map_err(|_| YEAR)?;
    if utc.year() < 1 { Err(YEAR) } else { Ok(utc) }
}

/// The date at the start of a text, and what follows it.
fn date(text: &[u8]) -> Result<(civil::Date, &[u8]), Reason> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return Err(FORM) };
    let year = 100 * i16::from(pair(y1, y2)?) + i16::from(pair(y3, y4)?);
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    if year == 0 {
        return Err(YEAR);
    }
    Ok((civil::Date::new(year, month, day).map_err(|_| DAY)?, rest))
}

/// The separator and the time of day at the start of a text, and what follows them.
fn time(text: &[u8]) -> Result<(civil::Time, &[u8]), Reason> {
    let [b'T' | b't' | b'_' | b' ', h1, h2, b':', m1, m2, rest @ ..] = text else {
        return Err(FORM);
    };
    let (hour, minute) = (pair(h1, h2)?, pair(m1, m2)?);
    let (second, (nanosecond, rest)) = match rest {
        [b':', s1, s2, b'.' | b',', rest @ ..] => (pair(s1, s2)?, fraction(rest)?),
        [b':', s1, s2, rest @ ..] => (pair(s1, s2)?, (0, rest)),
        rest => (0, (0, rest)),
    };
    Ok((civil::Time::new(hour, minute, second, nanosecond).map_err(|_| TIME)?, rest))
}

/// The fraction of a second at the start of a text, in nanoseconds, and what follows it.
fn fraction(text: &[u8]) -> Result<(i32, &[u8]), Reason> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() {
        return Err(FORM);
    }
    let six = digits.iter().chain(iter::repeat(&b'0')).take(6);
    let microseconds = six.fold(0, |sum, digit| 10 * sum + i32::from(digit - b'0'));
    Ok((1000 * microseconds, rest))
}

/// How far a clock in this zone is ahead of UTC; no zone is UTC.
fn zone(text: &[u8]) -> Result<SignedDuration, Reason> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Ok(SignedDuration::ZERO),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            (sign, pair(h1, h2)?, pair(m1, m2)?)
        }
        _ => return Err(FORM),
    };
    if hours > 23 || minutes > 59 {
        return Err(ZONE);
    }
    let ahead = SignedDuration::from_mins(60 * i64::from(hours) + i64::from(minutes));
    Ok(if *sign == b'-' { -ahead } else { ahead })
}

/// The number that two digits are.
fn pair(tens: &u8, ones: &u8) -> Result<i8, Reason> {
    if !(tens.is_ascii_digit() && ones.is_ascii_digit()) {
        return Err(FORM);
    }
    // 99 at most.
    Ok((10 * (tens - b'0') + (ones - b'0')).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, Fault> {
        DateTime.check(&Value::Text(text.into())).map(|moment| moment.to_string())
    }

    /// pydantic 2.14 reads every one of these, and as the same moment.
    const TAKEN: [(&str, &str); 35] = [
        ("2024-12-12T13:25:00", "2024-12-12T13:25:00"),
        ("2024-12-12t13:25:00", "2024-12-12T13:25:00"),
        ("2024-12-12 13:25:00", "2024-12-12T13:25:00"),
        ("2024-12-12_13:25:00", "2024-12-12T13:25:00"),
        ("2024-12-12 13:25", "2024-12-12T13:25:00"),
        ("2024-12-12", "2024-12-12T00:00:00"),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("2000-02-29T23:59:59", "2000-02-29T23:59:59"),
        ("2024-12-12T13:25:00.5", "2024-12-12T13:25:00.500000"),
        ("2024-12-12T13:25:00,5", "2024-12-12T13:25:00.500000"),
        ("2024-12-12T13:25:00.000001", "2024-12-12T13:25:00.000001"),
        ("2024-12-12T13:25:00.123456", "2024-12-12T13:25:00.123456"),
        ("2024-12-12T13:25:00.000000", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00.0000009", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00.1234569", "2024-12-12T13:25:00.123456"),
        ("2024-12-12T13:25:00.99999999999999999999", "2024-12-12T13:25:00.999999"),
        ("2024-12-12T13:25Z", "2024-12-12T13:25:00"),
        ("2024-12-12 13:25:00z", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00.123456Z", "2024-12-12T13:25:00.123456"),
        ("2024-12-12T13:25:00+00:00", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00-00:00", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00+01:00", "2024-12-12T12:25:00"),
        ("2024-12-12T13:25-0130", "2024-12-12T14:55:00"),
        ("2024-12-12T13:25:00.5+0530", "2024-12-12T07:55:00.500000"),
        ("2024-12-12T13:25:00+14:00", "2024-12-11T23:25:00"),
        ("2024-12-12T13:25:00+23:59", "2024-12-11T13:26:00"),
        ("2024-12-12T13:25:00-23:59", "2024-12-13T13:24:00"),
        ("2024-12-31T23:30-01:00", "2025-01-01T00:30:00"),
        ("2024-03-01T00:30+01:00", "2024-02-29T23:30:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("0001-01-01T14:00+14:00", "0001-01-01T00:00:00"),
        ("0001-01-01T00:00-01:00", "0001-01-01T01:00:00"),
        ("9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59.999999"),
        ("9999-12-31T23:59+01:00", "9999-12-31T22:59:00"),
        ("1969-12-31T23:59:59.25", "1969-12-31T23:59:59.250000"),
    ];

    /// pydantic 2.14 refuses every one of these.
    const REFUSED: [(&str, Reason); 67] = [
        ("", FORM),
        ("now", FORM),
        ("infinity", FORM),
        ("1e9", FORM),
        ("2024-12", FORM),
        ("24-12-12", FORM),
        ("2024-1-2", FORM),
        ("2024/12/12", FORM),
        ("12-12-2024", FORM),
        ("+12024-12-12T00:00:00", FORM),
        ("-2024-12-12T00:00:00", FORM),
        ("20241212T1325", FORM),
        ("20241212T132500Z", FORM),
        ("2024-W50-4", FORM),
        ("2024-347", FORM),
        ("Thu, 12 Dec 2024 13:25:00 GMT", FORM),
        ("２０２４-12-12", FORM),
        ("٢٠٢٤-12-12", FORM),
        ("2024‐12‐12", FORM),
        ("2024-12-12T13:25:0٠", FORM),
        ("2024-12-12\u{a0}13:25", FORM),
        (" 2024-12-12T13:25", FORM),
        ("2024-12-12T13:25 ", FORM),
        ("2024-12-12T13:25\n", FORM),
        ("2024-12-12T13:25:00\0", FORM),
        ("2024-12-12  13:25", FORM),
        ("2024-12-12\t13:25", FORM),
        ("2024-12-12X13:25", FORM),
        ("2024-12-1213:25", FORM),
        ("2024-12-12 ", FORM),
        ("2024-12-12T", FORM),
        ("2024-12-12Z", FORM),
        ("2024-12-12+01:00", FORM),
        ("2024-12-12T13", FORM),
        ("2024-12-12T13Z", FORM),
        ("2024-12-12T1325", FORM),
        ("2024-12-12T1:25", FORM),
        ("2024-12-12T-3:25", FORM),
        ("2024-12-12T13:25:", FORM),
        ("2024-12-12T13:25:5", FORM),
        ("2024-12-12T13:25.5", FORM),
        ("2024-12-12T13:25:00.", FORM),
        ("2024-12-12T13:25:00.Z", FORM),
        ("2024-12-12T13:25:00.5.5", FORM),
        ("2024-12-12T13:25:00.1_0", FORM),
        ("2024-12-12T13:25:00 Z", FORM),
        ("2024-12-12T13:25:00 +01:00", FORM),
        ("2024-12-12T13:25:00UTC", FORM),
        ("2024-12-12T13:25:00Z+01:00", FORM),
        ("2024-12-12T13:25:00+1:00", FORM),
        ("2024-12-12T13:25:00+01", FORM),
        ("2024-12-12T13:25:00+01:0", FORM),
        ("2024-12-12T13:25:00+01:00:00", FORM),
        ("2024-12-12T13:25[Europe/Berlin]", FORM),
        ("2024-12-12T13:25+01:00[Europe/Berlin]", FORM),
        ("2024-00-01", DAY),
        ("2024-13-01", DAY),
        ("2024-01-00", DAY),
        ("2024-04-31T10:00", DAY),
        ("2023-02-29", DAY),
        ("1900-02-29", DAY),
        ("2024-12-12T24:00:00", TIME),
        ("2024-12-12T13:60", TIME),
        ("2016-12-31T23:59:60Z", TIME),
        ("2024-12-12T13:25:00+24:00", ZONE),
        ("2024-12-12T13:25:00-00:60", ZONE),
        ("0000-12-31T23:30-01:00", YEAR),
    ];

    /// pydantic 2.14 reads every one of these; they are refused on purpose (see the file's head).
    const REFUSED_ON_PURPOSE: [(&str, Reason); 10] = [
        ("0", FORM),
        ("-1", FORM),
        ("2024", FORM),
        ("20241212", FORM),
        ("1734009900", FORM),
        ("1734009900.5", FORM),
        ("2024-12-12T13:25:00−01:00", FORM),
        ("0001-01-01T00:00+14:00", YEAR),
        ("0001-01-01T00:00:00.5+00:01", YEAR),
        ("9999-12-31T23:59-01:00", YEAR),
    ];

    #[test]
    fn the_forms_of_the_template_are_read() {
        for (text, want) in TAKEN {
            assert_eq!(check(text).as_deref(), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        for (text, why) in REFUSED.into_iter().chain(REFUSED_ON_PURPOSE) {
            let msg = format!("Input should be a valid datetime or date, {why}");
            let fault = Fault::new("datetime_from_date_parsing", msg);
            assert_eq!(check(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn only_text_is_read() {
        let fault = Fault::new("datetime_type", "Input should be a valid datetime");
        for json in
            [json!(1_734_009_900), json!(1.5), json!(null), json!(true), json!([]), json!({})]
        {
            assert_eq!(DateTime.check(&Value::Json(&json)), Err(fault.clone()), "{json}");
        }
        assert!(DateTime.check(&Value::Json(&json!("2024-12-12 13:25"))).is_ok());
    }

    #[test]
    fn it_is_answered_as_it_is_displayed() {
        let moment = DateTime.check(&Value::Text("2024-12-12 13:25:00.5".into())).unwrap();
        assert_eq!(json!(moment), json!("2024-12-12T13:25:00.500000"));
    }

    #[test]
    fn now_is_in_utc_and_in_whole_microseconds() {
        let before = Timestamp::now().as_microsecond();
        let now = UtcDateTime::now();
        let after = Timestamp::now().as_microsecond();
        let at = Offset::UTC.to_timestamp(now.0).unwrap();
        assert_eq!(at.as_nanosecond() % 1000, 0);
        assert!((before..=after).contains(&at.as_microsecond()), "{now}");
        assert_eq!(check(&now.to_string()), Ok(now.to_string()));
    }

    #[test]
    fn a_column_gives_back_what_was_put_in() {
        let texts = TAKEN.into_iter().map(|(text, _)| text);
        for text in texts.chain(["0001-01-01T00:00:00.000001", "1999-12-31T23:59:59.999999"]) {
            let moment = DateTime.check(&Value::Text(text.into())).unwrap();
            let mut raw = BytesMut::new();
            moment.to_sql_checked(&Type::TIMESTAMP, &mut raw).unwrap();
            assert_eq!(UtcDateTime::from_sql(&Type::TIMESTAMP, &raw).unwrap(), moment, "{text}");
        }
        assert!(!<UtcDateTime as ToSql>::accepts(&Type::TIMESTAMPTZ));
        assert!(!<UtcDateTime as FromSql>::accepts(&Type::TIMESTAMPTZ));
    }

    #[test]
    fn what_a_column_holds_beyond_the_years_is_their_first_or_last_moment() {
        let column = |microseconds: i64| {
            let read = UtcDateTime::from_sql(&Type::TIMESTAMP, &microseconds.to_be_bytes());
            read.unwrap().to_string()
        };
        let count = |moment: civil::DateTime| {
            i64::try_from(moment.duration_since(EPOCH).as_micros()).unwrap()
        };
        let (first, last) = ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999");
        // The first is -infinity, the next two are the first moment PostgreSQL has, 4713 BC, and
        // the last one before jiff's first year.
        let (postgres_min, jiff_min) = (-211_813_488_000_000_000, count(civil::DateTime::MIN));
        for microseconds in [i64::MIN, postgres_min, jiff_min - 1, jiff_min, count(FIRST) - 1] {
            assert_eq!(column(microseconds), first, "{microseconds}");
        }
        assert_eq!(column(count(FIRST)), first);
        assert_eq!(column(count(FIRST) + 1), "0001-01-01T00:00:00.000001");
        assert_eq!(column(count(LAST) - 1), "9999-12-31T23:59:59.999998");
        assert_eq!(column(count(LAST)), last);
        for microseconds in [count(LAST) + 1, 9_223_371_331_199_999_999, i64::MAX] {
            assert_eq!(column(microseconds), last, "{microseconds}");
        }
        assert_eq!(column(0), "2000-01-01T00:00:00");
    }

    /// Marsaglia's xorshift64: the same numbers in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }

        fn of<T: Copy>(&mut self, choices: &[T]) -> T {
            choices[self.below(choices.len())]
        }
    }

    #[test]
    fn whatever_is_read_reads_back_and_nothing_panics() {
        let signs: Vec<char> = "01234569TtZz _-+:.,−é٠\0\n".chars().collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut taken = 0;
        for _ in 0..300_000 {
            let mut text: Vec<char> = random.of(&TAKEN).0.chars().collect();
            for _ in 0..=random.below(3) {
                let start = random.below(text.len() + 1);
                let end = (start + random.below(3)).min(text.len());
                let put: Vec<char> = (0..random.below(3)).map(|_| random.of(&signs)).collect();
                drop(text.splice(start..end, put));
            }
            let text: String = text.into_iter().collect();
            if let Ok(shown) = check(&text) {
                assert_eq!(check(&shown).as_ref(), Ok(&shown), "{text:?}");
                taken += 1;
            }
        }
        assert!((10_000..290_000).contains(&taken), "the mutations say little: {taken} were read");
    }

    #[test]
    fn the_rule_describes_itself() {
        let schema = DateTime.describe();
        assert_eq!(
            (&schema["type"], &schema["format"]),
            (&json!("string"), &json!("date-time-local"))
        );
    }
}
