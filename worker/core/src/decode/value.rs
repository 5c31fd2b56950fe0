//! One JSON value into its column, by the declared type (semantics 34, 36). The last word on what converts to what:
//! nothing does but the type's own form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evp_api::plan::DataType;
use evp_api::schema::TimeUnit;

use super::column::{Bytes, Column, Data, push_offset};
use super::cursor::{Cursor, Fault, Keys, Parsed};
use super::number::{Misfit, Number};
use super::object::missing;
use super::time;
use crate::dead_letter::RejectCode;

/// What went wrong with a value whose grammar is right (or will be judged by the second look at the whole record).
pub(super) enum Wrong {
    /// Something other than the declared type.
    Kind,
    /// The right kind with a wrong content.
    Content(&'static str),
    /// More than a column can hold in one batch.
    TooMuch,
    /// Already told in full.
    Told(Fault),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::Told(fault)
    }
}

impl From<Misfit> for Wrong {
    fn from(misfit: Misfit) -> Self {
        Self::Content(match misfit {
            Misfit::NotIntegral => "a number with a fraction or an exponent",
            Misfit::OutOfRange => "out of range",
            Misfit::TooPrecise => "more precise than the type",
        })
    }
}

impl Column {
    /// Reads the next value. `optional`: null is a value.
    #[inline]
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        optional: bool,
        depth: u32,
        keys: &mut Keys,
    ) -> Parsed<()> {
        let first = cursor.next_token();
        let at = cursor.at();
        if first == Some(b'n') {
            cursor.literal("null")?;
            if !optional {
                return Err(missing(&self.path, Some(at), "null"));
            }
            self.push_null();
            return Ok(());
        }
        match self.data.read(first, cursor, depth, keys) {
            Ok(()) => {
                self.nulls.append_non_null();
                Ok(())
            }
            Err(wrong) => Err(self.fault(wrong, first, at)),
        }
    }

    #[cold]
    pub(super) fn fault(&self, wrong: Wrong, first: Option<u8>, at: usize) -> Fault {
        let (path, expected) = (&self.path, type_name(&self.data_type));
        let (code, what) = match wrong {
            Wrong::Told(fault) => return fault,
            Wrong::Kind => (
                RejectCode::WrongType,
                format!(
                    "field `{path}` is {}, {expected} is expected",
                    kind_name(first)
                ),
            ),
            Wrong::Content(what) => (
                RejectCode::WrongType,
                format!("field `{path}` is {what}; {expected} is expected"),
            ),
            Wrong::TooMuch => (
                RejectCode::TooLarge,
                format!("field `{path}` does not fit into a batch of 2 GiB"),
            ),
        };
        Fault::new(code, Some(at), what, Some(path))
    }
}

impl Data {
    #[inline]
    fn read(
        &mut self,
        first: Option<u8>,
        cursor: &mut Cursor<'_>,
        depth: u32,
        keys: &mut Keys,
    ) -> Result<(), Wrong> {
        match self {
            Self::Text(column) => {
                open_text(first, cursor)?;
                cursor.text(&mut column.bytes)?;
                end_value(column)?;
            }
            Self::Double(values) => values.push(number(first, cursor)?.double()?),
            Self::Int(values) => values.push(number(first, cursor)?.int()?),
            Self::Long(values) => values.push(number(first, cursor)?.long()?),
            Self::Timestamp { values, zone, unit } => values.push(match first {
                Some(b'"') => timestamp(first, cursor, keys, zone.as_ref())?,
                _ => epoch_micros(&number(first, cursor)?, *unit)?,
            }),
            Self::Boolean(values) => values.append(boolean(first, cursor)?),
            Self::Float(values) => values.push(number(first, cursor)?.float()?),
            &mut Self::Decimal {
                ref mut values,
                precision,
                scale,
            } => {
                values.push(number(first, cursor)?.decimal(precision, scale)?);
            }
            Self::Date(values) => values.push(date(first, cursor, keys)?),
            Self::Binary(column) => {
                decode_base64(text(first, cursor, keys)?, &mut column.bytes)?;
                end_value(column)?;
            }
            Self::List { offsets, items } => {
                read_list(
                    offsets,
                    items,
                    Nested {
                        first,
                        cursor,
                        depth,
                        keys,
                    },
                )?;
            }
            Self::Map {
                offsets,
                keys: names,
                values,
            } => {
                read_map(
                    offsets,
                    names,
                    values,
                    Nested {
                        first,
                        cursor,
                        depth,
                        keys,
                    },
                )?;
            }
            Self::Struct(_) if first != Some(b'{') => return Err(Wrong::Kind),
            Self::Struct(object) => object.read(cursor, depth + 1, keys)?,
        }
        Ok(())
    }
}

/// Where a nested value is read.
struct Nested<'c, 'a, 'k> {
    first: Option<u8>,
    cursor: &'c mut Cursor<'a>,
    depth: u32,
    keys: &'k mut Keys,
}

fn read_list(
    offsets: &mut Vec<i32>,
    items: &mut Column,
    at: Nested<'_, '_, '_>,
) -> Result<(), Wrong> {
    let Nested {
        first,
        cursor,
        depth,
        keys,
    } = at;
    if first != Some(b'[') {
        return Err(Wrong::Kind);
    }
    cursor.enter(depth + 1)?;
    let mut more = cursor.first_item(b']');
    while more {
        items.read(cursor, true, depth + 1, keys)?;
        more = cursor.next_item(b']')?;
    }
    if push_offset(offsets, items.len()) {
        Ok(())
    } else {
        Err(Wrong::TooMuch)
    }
}

fn read_map(
    offsets: &mut Vec<i32>,
    names: &mut Bytes,
    values: &mut Column,
    at: Nested<'_, '_, '_>,
) -> Result<(), Wrong> {
    let Nested {
        first,
        cursor,
        depth,
        keys,
    } = at;
    if first != Some(b'{') {
        return Err(Wrong::Kind);
    }
    cursor.enter(depth + 1)?;
    let opened = keys.open();
    let mut more = cursor.first_item(b'}');
    while more {
        let key = cursor.key(keys)?;
        keys.push(key);
        names
            .bytes
            .extend_from_slice(key.bytes(cursor.record(), &keys.text));
        end_value(names)?;
        values.read(cursor, true, depth + 1, keys)?;
        more = cursor.next_item(b'}')?;
    }
    keys.close(opened, cursor)?;
    if push_offset(offsets, names.len()) {
        Ok(())
    } else {
        Err(Wrong::TooMuch)
    }
}

#[inline]
pub(super) fn end_value(column: &mut Bytes) -> Result<(), Wrong> {
    if column.end_value() {
        Ok(())
    } else {
        Err(Wrong::TooMuch)
    }
}

#[inline]
fn open_text(first: Option<u8>, cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
    if first != Some(b'"') {
        return Err(Wrong::Kind);
    }
    cursor.bump();
    Ok(())
}

#[inline]
fn text<'s, 'a: 's>(
    first: Option<u8>,
    cursor: &mut Cursor<'a>,
    keys: &'s mut Keys,
) -> Result<&'s [u8], Wrong> {
    open_text(first, cursor)?;
    Ok(cursor.string(&mut keys.text)?)
}

#[inline]
pub(super) fn number<'a>(first: Option<u8>, cursor: &mut Cursor<'a>) -> Result<Number<'a>, Wrong> {
    match first {
        Some(b'-' | b'0'..=b'9') => Ok(cursor.number()?),
        _ => Err(Wrong::Kind),
    }
}

fn timestamp(
    first: Option<u8>,
    cursor: &mut Cursor<'_>,
    keys: &mut Keys,
    zone: Option<&time::Zone>,
) -> Result<i64, Wrong> {
    time::timestamp(text(first, cursor, keys)?, zone).map_err(Wrong::Content)
}

fn date(first: Option<u8>, cursor: &mut Cursor<'_>, keys: &mut Keys) -> Result<i32, Wrong> {
    time::date(text(first, cursor, keys)?).map_err(Wrong::Content)
}

pub(super) fn decode_base64(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    STANDARD
        .decode_vec(encoded, out)
        .map_err(|_| Wrong::Content("no base64"))
}

fn boolean(first: Option<u8>, cursor: &mut Cursor<'_>) -> Result<bool, Wrong> {
    match first {
        Some(b't') => Ok(cursor.literal("true").map(|()| true)?),
        Some(b'f') => Ok(cursor.literal("false").map(|()| false)?),
        _ => Err(Wrong::Kind),
    }
}

/// Microseconds of a number in the declared unit, exactly.
pub(super) fn epoch_micros(number: &Number<'_>, unit: Option<TimeUnit>) -> Result<i64, Wrong> {
    let unit = unit.ok_or(Wrong::Content("a number, and the field declares no unit"))?;
    let micros = number.scaled(match unit {
        TimeUnit::Seconds => 6,
        TimeUnit::Milliseconds => 3,
        TimeUnit::Microseconds => 0,
        TimeUnit::Nanoseconds => -3,
    })?;
    i64::try_from(micros)
        .ok()
        .filter(|&m| time::in_range(m))
        .ok_or(Misfit::OutOfRange.into())
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::String => "a string".to_owned(),
        DataType::Int => "an int".to_owned(),
        DataType::Long => "a long".to_owned(),
        DataType::Float => "a float".to_owned(),
        DataType::Double => "a double".to_owned(),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Decimal { precision, scale } => format!("a decimal({precision},{scale})"),
        DataType::Date => "a date".to_owned(),
        DataType::Timestamp => "a timestamp".to_owned(),
        DataType::Binary => "base64 text".to_owned(),
        DataType::List(_) => "an array".to_owned(),
        DataType::Map(_) | DataType::Struct(_) => "an object".to_owned(),
    }
}

/// What kind of value that first byte begins.
pub(super) fn kind_name(first: Option<u8>) -> &'static str {
    match first {
        Some(b'"') => "a string",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "no value",
    }
}
