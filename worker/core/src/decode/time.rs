//! Texts of dates and timestamps (semantics 1): RFC 3339 with a zone, or in the field's declared zone. Nothing is guessed:
//! a local time that a zone's clock skips or shows twice is an error, and so are non-zero digits below a microsecond.
//!
//! Years 0001 to 9999, for other readers of the tables know no others; a leap second has no instant of its own and is refused.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// 0001-01-01T00:00:00Z.
const FIRST: i64 = -62_135_596_800 * SECOND;
/// 9999-12-31T23:59:59.999999Z.
const LAST: i64 = 253_402_300_800 * SECOND - 1;

/// The zone of timestamp texts that carry none.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// An IANA name (from the bundled database, so that every machine decodes alike), `Z`, `UTC` or `±hh:mm`.
    pub fn parse(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        if matches!(bytes.first(), Some(b'+' | b'-' | b'Z')) {
            let seconds = offset(bytes).ok()??;
            let offset = jiff::tz::Offset::from_seconds(i32::try_from(seconds).ok()?).ok()?;
            return Some(Self(TimeZone::fixed(offset)));
        }
        TimeZone::get(name).ok().map(Self)
    }

    /// The one instant at which this zone's clock shows that time; microseconds since the epoch.
    fn instant(&self, local: i64) -> Result<i64, &'static str> {
        const RANGE: &str = "out of range";
        let parts = DateTime::new(1970, 1, 1, 0, 0, 0, 0).map_err(|_| RANGE)?;
        let shown = parts
            .checked_add(jiff::SignedDuration::from_micros(local))
            .map_err(|_| RANGE)?;
        let instant = self.0.to_ambiguous_timestamp(shown);
        instant
            .unambiguous()
            .map(jiff::Timestamp::as_microsecond)
            .map_err(|_| "a local time that the declared zone skips or has twice")
    }
}

/// Is that instant within the years 0001 to 9999?
pub(super) fn in_range(micros: i64) -> bool {
    (FIRST..=LAST).contains(&micros)
}

/// Microseconds since the epoch of a timestamp text.
pub(super) fn timestamp(text: &[u8], zone: Option<&Zone>) -> Result<i64, &'static str> {
    const FORM: &str = "not of the form YYYY-MM-DDThh:mm:ss[.fraction] with Z or ±hh:mm";
    let (day, rest) = text.split_at_checked(10).ok_or(FORM)?;
    let (time, rest) = rest.split_at_checked(9).ok_or(FORM)?;
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = time else {
        return Err(FORM);
    };
    let days = civil_days(day).ok_or(FORM)?;
    let (hour, minute) = (two(*h1, *h2).ok_or(FORM)?, two(*m1, *m2).ok_or(FORM)?);
    let second = two(*s1, *s2).ok_or(FORM)?;
    if second == 60 {
        return Err("a leap second");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(FORM);
    }
    let (fraction, rest) = fraction(rest)?;
    let local = (days * 86_400 + hour * 3_600 + minute * 60 + second) * SECOND + fraction;
    let micros = match (offset(rest).map_err(|()| FORM)?, zone) {
        (Some(seconds), _) => local - seconds * SECOND,
        (None, Some(zone)) => zone.instant(local)?,
        (None, None) => return Err("without a zone, and the field declares none"),
    };
    if in_range(micros) {
        Ok(micros)
    } else {
        Err("out of range")
    }
}

/// Days since the epoch of a `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> Result<i32, &'static str> {
    let days = civil_days(text).ok_or("not a date of the form YYYY-MM-DD")?;
    i32::try_from(days).map_err(|_| "out of range")
}

/// Microseconds of `.digits`, if there are any, and what follows.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), &'static str> {
    let Some((b'.', rest)) = text.split_first() else {
        return Ok((0, text));
    };
    let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    if digits.is_empty() {
        return Err("without a digit after the point");
    }
    let (kept, below) = digits.split_at(digits.len().min(6));
    if below.iter().any(|&c| c != b'0') {
        return Err("more precise than a microsecond");
    }
    let value = kept.iter().fold(0, |sum, c| sum * 10 + i64::from(c - b'0'));
    let scale = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    Ok((value * scale[kept.len()], rest))
}

/// Seconds east of UTC of `Z` or `±hh:mm`; `Ok(None)`: nothing is there.
fn offset(text: &[u8]) -> Result<Option<i64>, ()> {
    match text {
        [] => Ok(None),
        [b'Z' | b'z'] => Ok(Some(0)),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2).ok_or(())?, two(*m1, *m2).ok_or(())?);
            if hours > 23 || minutes > 59 {
                return Err(());
            }
            let seconds = hours * 3_600 + minutes * 60;
            Ok(Some(if *sign == b'-' { -seconds } else { seconds }))
        }
        _ => Err(()),
    }
}

fn civil_days(text: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=last).contains(&day) && year >= 1).then(|| days_from_civil(year, month, day))
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"); year ≥ 1.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year / 400;
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}
