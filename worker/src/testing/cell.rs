//! Values of rows as tests compare them: by what they are, not by how they are written.

use std::fmt;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evp_api::plan::parse_instant;
use serde_json::Value;

use crate::manifest::shape::noun;

/// How far two floating-point numbers may be apart, relative to the larger: sums depend on the order of what is added.
const TOLERANCE: f64 = 1e-9;

/// Dates count from here.
const EPOCH: jiff::civil::Date = jiff::civil::date(1970, 1, 1);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Boolean(bool),
    Whole(i128),
    /// Digits, and how many of them stand after the point.
    Decimal(i128, i8),
    Float(f64),
    Text(String),
    /// Days since the epoch.
    Date(i32),
    /// Microseconds since the epoch.
    Time(i64),
    /// Base64.
    Binary(String),
    List(Vec<Cell>),
    /// Members of a struct, or entries of a map in the order of their keys.
    Fields(Vec<(String, Cell)>),
}

impl Cell {
    /// Equal, or floating-point numbers that are as good as equal.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => {
                let close = (a - b).abs() <= a.abs().max(b.abs()) * TOLERANCE;
                close || a.total_cmp(b).is_eq() || a.is_nan() && b.is_nan()
            }
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (Self::Fields(a), Self::Fields(b)) => {
                let same =
                    |((n, a), (m, b)): (&(String, Self), &(String, Self))| n == m && a.same(b);
                a.len() == b.len() && a.iter().zip(b).all(same)
            }
            (a, b) => a == b,
        }
    }

    /// A value of a column.
    pub(super) fn of(array: &dyn Array, row: usize) -> Self {
        if array.is_null(row) {
            return Self::Null;
        }
        let plain = |to: &DataType| cast(array, to).ok();
        let found = match array.data_type() {
            DataType::Boolean => Some(Self::Boolean(array.as_boolean().value(row))),
            t if t.is_integer() => plain(&DataType::Int64)
                .map(|a| Self::Whole(a.as_primitive::<Int64Type>().value(row).into())),
            DataType::Decimal128(_, scale) => Some(Self::Decimal(
                array.as_primitive::<Decimal128Type>().value(row),
                *scale,
            )),
            t if t.is_floating() => plain(&DataType::Float64)
                .map(|a| Self::Float(a.as_primitive::<Float64Type>().value(row))),
            DataType::Date32 => Some(Self::Date(array.as_primitive::<Date32Type>().value(row))),
            DataType::Timestamp(_, zone) => {
                plain(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
                    .map(|a| Self::Time(a.as_primitive::<TimestampMicrosecondType>().value(row)))
            }
            t if t.is_binary() => plain(&DataType::Binary)
                .map(|a| Self::Binary(STANDARD.encode(a.as_binary::<i32>().value(row)))),
            DataType::List(_) => Some(Self::items(&array.as_list::<i32>().value(row))),
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter();
                let member = |(f, c): (&std::sync::Arc<Field>, &arrow::array::ArrayRef)| {
                    (f.name().clone(), Self::of(c, row))
                };
                Some(Self::Fields(
                    fields.iter().zip(columns).map(member).collect(),
                ))
            }
            DataType::Map(..) => Some(Self::entries(&array.as_map().value(row))),
            _ => None,
        };
        found.unwrap_or_else(|| {
            let text = array_value_to_string(array, row);
            Self::Text(text.unwrap_or_else(|e| e.to_string()))
        })
    }

    fn items(array: &dyn Array) -> Self {
        Self::List((0..array.len()).map(|i| Self::of(array, i)).collect())
    }

    fn entries(entries: &arrow::array::StructArray) -> Self {
        let (keys, values) = (entries.column(0), entries.column(1));
        let entry = |i| {
            let key = array_value_to_string(keys, i).unwrap_or_default();
            (key, Self::of(values, i))
        };
        let mut fields: Vec<_> = (0..entries.len()).map(entry).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::Fields(fields)
    }

    /// A value as somebody wrote it for a column of this type. `Err`: what was expected.
    pub(super) fn read(value: &Value, data_type: &DataType) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("expected {what}, found {}", noun(value)));
        match (data_type, value) {
            (_, Value::Null) => Ok(Self::Null),
            (DataType::Boolean, Value::Bool(b)) => Ok(Self::Boolean(*b)),
            (DataType::Boolean, _) => wrong("true or false"),
            (DataType::Decimal128(precision, scale), Value::Number(_) | Value::String(_)) => {
                decimal(value, *precision, *scale)
            }
            (DataType::Decimal128(..), _) => wrong("a number"),
            (t, Value::Number(n)) if t.is_integer() => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Ok(Self::Whole(n.into())),
                (_, Some(n)) => Ok(Self::Whole(n.into())),
                _ => wrong("a whole number"),
            },
            (t, _) if t.is_integer() => wrong("a whole number"),
            (t, Value::Number(n)) if t.is_floating() => {
                Ok(Self::Float(n.as_f64().unwrap_or(f64::NAN)))
            }
            (t, _) if t.is_floating() => wrong("a number"),
            (DataType::Date32, Value::String(text)) => date(text),
            (DataType::Date32, _) => wrong("a date such as `2026-01-01`"),
            (DataType::Timestamp(..), Value::String(text)) => parse_instant(text).map(Self::Time),
            (DataType::Timestamp(..), _) => wrong("an instant such as `2026-01-01T00:00:00Z`"),
            (t, Value::String(text)) if t.is_binary() => Ok(Self::Binary(text.clone())),
            (t, _) if t.is_binary() => wrong("a text in base64"),
            (DataType::List(item), Value::Array(items)) => {
                let items = items.iter().map(|v| Self::read(v, item.data_type()));
                Ok(Self::List(items.collect::<Result<_, _>>()?))
            }
            (DataType::List(_), _) => wrong("a list"),
            (DataType::Struct(members), Value::Object(given)) => members_of(members, given),
            (DataType::Map(entries, _), Value::Object(given)) => map_of(entries, given),
            (DataType::Struct(_) | DataType::Map(..), _) => wrong("fields"),
            (_, Value::String(text)) => Ok(Self::Text(text.clone())),
            _ => wrong("a text"),
        }
    }
}

fn members_of(
    members: &arrow::datatypes::Fields,
    given: &serde_json::Map<String, Value>,
) -> Result<Cell, String> {
    if let Some(odd) = given
        .keys()
        .find(|n| !members.iter().any(|m| m.name() == *n))
    {
        return Err(format!("there is no member `{odd}`"));
    }
    let member = |m: &std::sync::Arc<Field>| {
        let value = given.get(m.name()).unwrap_or(&Value::Null);
        Ok((m.name().clone(), Cell::read(value, m.data_type())?))
    };
    let members: Result<_, String> = members.iter().map(member).collect();
    Ok(Cell::Fields(members?))
}

fn map_of(entries: &Field, given: &serde_json::Map<String, Value>) -> Result<Cell, String> {
    let DataType::Struct(members) = entries.data_type() else {
        return Err("a map of another form".to_owned());
    };
    let values = members.get(1).map_or(&DataType::Utf8, |m| m.data_type());
    let entry = |(key, value): (&String, &Value)| Ok((key.clone(), Cell::read(value, values)?));
    let mut fields: Vec<_> = given.iter().map(entry).collect::<Result<_, String>>()?;
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Cell::Fields(fields))
}

/// A number of that scale, all its digits kept.
fn decimal(value: &Value, precision: u8, scale: i8) -> Result<Cell, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let form = || {
        format!("`{text}` is no number of the form 12.34; put it in quotes if it has an exponent")
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, &*text),
    };
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let places = usize::try_from(scale).unwrap_or_default();
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(rest) {
        return Err(form());
    }
    let kept = rest.trim_end_matches('0');
    if kept.len() > places {
        return Err(format!(
            "`{text}` has more than {places} digits after the point"
        ));
    }
    let all = format!("{whole}{kept:0<places$}");
    let units: i128 = all.parse().map_err(|_| form())?;
    if units.unsigned_abs().checked_ilog10().unwrap_or(0) >= u32::from(precision) {
        return Err(format!("`{text}` has more than {precision} digits"));
    }
    Ok(Cell::Decimal(sign * units, scale))
}

fn date(text: &str) -> Result<Cell, String> {
    let day: jiff::civil::Date = text
        .parse()
        .map_err(|_| format!("`{text}` is no date such as `2026-01-01`"))?;
    let since = EPOCH.until(day);
    Ok(Cell::Date(since.map_err(|e| e.to_string())?.get_days()))
}

/// As YAML would have it on one line.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(b) => b.fmt(f),
            Self::Whole(n) => n.fmt(f),
            Self::Decimal(units, scale) => {
                let places = usize::try_from(*scale).unwrap_or_default();
                let sign = if *units < 0 { "-" } else { "" };
                let digits = format!("{:0>width$}", units.unsigned_abs(), width = places + 1);
                let (whole, rest) = digits.split_at(digits.len() - places);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{sign}{whole}{point}{rest}")
            }
            Self::Float(n) => n.fmt(f),
            Self::Text(text) | Self::Binary(text) => f.write_str(&quoted(text)),
            Self::Date(days) => {
                let span = jiff::Span::new().try_days(*days);
                match span.and_then(|span| EPOCH.checked_add(span)) {
                    Ok(day) => day.fmt(f),
                    Err(_) => write!(f, "day {days}"),
                }
            }
            Self::Time(micros) => match jiff::Timestamp::from_microsecond(*micros) {
                Ok(time) => time.fmt(f),
                Err(_) => write!(f, "{micros} µs"),
            },
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Fields(fields) => f.write_str(&shown(fields)),
        }
    }
}

/// A row, or a struct, on one line.
pub(super) fn shown(fields: &[(String, Cell)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    format!("{{{}}}", fields.join(", "))
}

/// In quotes where YAML would take it for something else.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_alphabetic())
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "_-./ ".contains(c))
        && !matches!(text, "true" | "false" | "null")
        && !text.ends_with(' ');
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, StringArray, TimestampMicrosecondArray};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_compared_by_what_it_is() {
        let decimals = DataType::Decimal128(10, 2);
        let array = Decimal128Array::from(vec![1990, -5])
            .with_precision_and_scale(10, 2)
            .unwrap();
        for (row, written) in [(0, json!(19.9)), (0, json!("19.900")), (1, json!(-0.05))] {
            let read = Cell::read(&written, &decimals).unwrap();
            assert!(read.same(&Cell::of(&array, row)), "{written}");
        }
        assert_eq!(Cell::of(&array, 1).to_string(), "-0.05");
        for odd in [
            json!("1e2"),
            json!(0.001),
            json!("123456789.01"),
            json!(true),
        ] {
            assert!(Cell::read(&odd, &decimals).is_err(), "{odd}");
        }

        let times = TimestampMicrosecondArray::from(vec![1_767_225_600_000_000]);
        let times = times.with_timezone("UTC");
        let written = json!("2026-01-01T01:00:00+01:00");
        let read = Cell::read(&written, times.data_type()).unwrap();
        assert!(read.same(&Cell::of(&times, 0)));
        assert_eq!(read.to_string(), "2026-01-01T00:00:00Z");
        assert!(Cell::read(&json!("yesterday"), times.data_type()).is_err());

        let sum = Float64Array::from(vec![0.1 + 0.2]);
        let read = Cell::read(&json!(0.3), &DataType::Float64).unwrap();
        assert!(read != Cell::of(&sum, 0) && read.same(&Cell::of(&sum, 0)));
        assert!(!Cell::Float(0.300_000_01).same(&read));

        let read = Cell::read(&json!("1970-01-11"), &DataType::Date32).unwrap();
        assert_eq!(
            (&read, read.to_string()),
            (&Cell::Date(10), "1970-01-11".to_owned())
        );
    }

    #[test]
    fn a_text_is_no_number_and_is_shown_so_that_it_can_be_written() {
        assert!(Cell::read(&json!(5), &DataType::Utf8).is_err());
        assert!(Cell::read(&json!("5"), &DataType::Int64).is_err());
        let texts: Arc<dyn Array> = Arc::new(StringArray::from(vec!["eu-west", "5", "a\"b", ""]));
        let shown: Vec<_> = (0..4).map(|i| Cell::of(&texts, i).to_string()).collect();
        assert_eq!(shown, ["eu-west", "\"5\"", "\"a\\\"b\"", "\"\""]);
    }
}
