//! One row of CSV into the columns (semantics 34): values by the file's header, or in the order of the schema.
//!
//! Strict as JSON is: a number is written as JSON writes it, `true` and `false` are the booleans, nothing around a value is
//! cut off. What CSV cannot say is its type, so the declared one is read out of the text. Where a row ends is
//! [`crate::files::frame`]'s; here it is judged once more, alone.

use std::ops::Range;
use std::sync::Arc;

use evp_api::plan::CsvPlan;
use hashbrown::HashMap;
use memchr::{memchr, memchr3};

use super::column::{Column, Data};
use super::cursor::{Cursor, Fault, Parsed, malformed};
use super::number::Number;
use super::object::{Object, missing};
use super::value::{Wrong, decode_base64, end_value, epoch_micros};
use super::{time, value};
use crate::dead_letter::RejectCode;
use crate::files::SourceFile;
use crate::files::frame::Marks;

/// Reads rows. Its buffers are used again from row to row.
#[derive(Debug)]
pub(super) struct Rows {
    marks: Marks,
    null: Vec<u8>,
    /// Names and number of the schema's fields.
    names: HashMap<Vec<u8>, usize>,
    refuse_unknown: bool,
    has_header: bool,
    /// Of rows without a header.
    plain: Columns,
    /// Of the file that was read last.
    last: Option<(Arc<SourceFile>, Verdict<Columns>)>,
    values: Vec<Value>,
    /// Texts whose doubled quotes are undone.
    scratch: Vec<u8>,
}

/// A verdict that is given again for each row of a file.
type Verdict<T> = Result<T, (RejectCode, String, Option<String>)>;

/// Which field each column of a file is.
#[derive(Clone, Debug, Default)]
struct Columns {
    /// Column → field; `None`: it is not read.
    fields: Vec<Option<usize>>,
    /// Optional fields that the file does not have.
    absent: Vec<usize>,
}

/// One value of a row.
#[derive(Clone, Debug)]
struct Value {
    /// First byte in the row.
    at: usize,
    /// Its text: of the row, or of the scratch where quotes were doubled.
    text: Range<usize>,
    unescaped: bool,
    quoted: bool,
}

impl Value {
    fn text<'a>(&self, row: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let from = if self.unescaped { scratch } else { row };
        from.get(self.text.clone()).unwrap_or_default()
    }
}

impl Rows {
    pub(super) fn new(plan: &CsvPlan, names: Vec<String>, refuse_unknown: bool) -> Self {
        Self {
            marks: plan.into(),
            null: plan.null_text.clone().into_bytes(),
            plain: Columns {
                fields: (0..names.len()).map(Some).collect(),
                absent: Vec::new(),
            },
            names: (0..).zip(names).map(|(i, n)| (n.into_bytes(), i)).collect(),
            refuse_unknown,
            has_header: plan.header,
            last: None,
            values: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Appends a row to the columns, or says why not.
    pub(super) fn read(
        &mut self,
        row: &[u8],
        file: Option<&Arc<SourceFile>>,
        into: &mut Object,
    ) -> Parsed<()> {
        Cursor::new(row)?;
        self.split(row)?;
        if self.has_header {
            self.meet(file, into);
        }
        let columns = match &self.last {
            Some((_, Ok(columns))) if self.has_header => columns,
            Some((_, Err((code, what, field)))) if self.has_header => {
                return Err(Fault::new(*code, None, what.clone(), field.as_deref()));
            }
            _ if self.has_header => return Err(malformed(0, "the row's file has no header")),
            _ => &self.plain,
        };
        if self.values.len() != columns.fields.len() {
            return Err(ragged(self.values.len(), columns.fields.len()));
        }
        for (value, field) in self.values.iter().zip(&columns.fields) {
            let Some(field) = field else { continue };
            let member = into.member(*field);
            let text = value.text(row, &self.scratch);
            if !value.quoted && text == self.null {
                if !member.optional {
                    return Err(missing(&member.column.path, Some(value.at), "null"));
                }
                member.column.push_null();
            } else {
                member.column.read_text(text, value.at)?;
            }
        }
        for &field in &columns.absent {
            into.member(field).column.push_null();
        }
        Ok(())
    }

    /// Finds the values of a row.
    fn split(&mut self, row: &[u8]) -> Parsed<()> {
        self.values.clear();
        self.scratch.clear();
        let mut at = 0;
        loop {
            let (value, after) = self.value(row, at)?;
            self.values.push(value);
            match row.get(after) {
                None => return Ok(()),
                Some(&b) if b == self.marks.delimiter => at = after + 1,
                Some(_) => return Err(malformed(after, "something follows a closing quote")),
            }
        }
    }

    /// The value that begins at this byte, and the byte after it.
    fn value(&mut self, row: &[u8], at: usize) -> Parsed<(Value, usize)> {
        let Marks { delimiter, quote } = self.marks;
        if row.get(at) == Some(&quote) {
            return self.quoted(row, at);
        }
        let rest = row.get(at..).unwrap_or_default();
        let end = match memchr3(delimiter, quote, b'\n', rest) {
            Some(found) if rest[found] == delimiter => at + found,
            Some(found) if rest[found] == quote => {
                return Err(malformed(at + found, "a quote in a value without quotes"));
            }
            Some(found) => return Err(malformed(at + found, "a line end without quotes")),
            None => row.len(),
        };
        let value = Value {
            at,
            text: at..end,
            unescaped: false,
            quoted: false,
        };
        Ok((value, end))
    }

    fn quoted(&mut self, row: &[u8], at: usize) -> Parsed<(Value, usize)> {
        let quote = self.marks.quote;
        let (start, mut from) = (self.scratch.len(), at + 1);
        loop {
            let rest = row.get(from..).unwrap_or_default();
            let Some(found) = memchr(quote, rest) else {
                return Err(malformed(at, "a quote that is not closed"));
            };
            let end = from + found;
            let is_doubled = row.get(end + 1) == Some(&quote);
            let unescaped = is_doubled || self.scratch.len() > start;
            if is_doubled {
                self.scratch.extend_from_slice(&row[from..=end]);
                from = end + 2;
                continue;
            }
            let text = if unescaped {
                self.scratch.extend_from_slice(&row[from..end]);
                start..self.scratch.len()
            } else {
                from..end
            };
            let value = Value {
                at,
                text,
                unescaped,
                quoted: true,
            };
            return Ok((value, end + 1));
        }
    }

    /// Makes the columns those of the row's file.
    fn meet(&mut self, file: Option<&Arc<SourceFile>>, into: &mut Object) {
        let Some(file) = file else {
            self.last = None;
            return;
        };
        let known = |last: &Arc<SourceFile>| Arc::ptr_eq(last, file) || last.header == file.header;
        if self.last.as_ref().is_some_and(|(last, _)| known(last)) {
            return;
        }
        let row = std::mem::take(&mut self.values);
        let scratch = std::mem::take(&mut self.scratch);
        let columns = self.columns(file.header.as_deref().unwrap_or_default(), into);
        (self.values, self.scratch) = (row, scratch);
        self.last = Some((Arc::clone(file), columns));
    }

    /// What a header says.
    fn columns(&mut self, header: &[u8], into: &mut Object) -> Verdict<Columns> {
        let wrong = |fault: Fault| {
            let what = format!("the file's header cannot be read: {}", fault.0.what);
            (RejectCode::Malformed, what, None)
        };
        Cursor::new(header).map_err(wrong)?;
        self.split(header).map_err(wrong)?;
        let mut fields = Vec::with_capacity(self.values.len());
        let mut seen: HashMap<&[u8], ()> = HashMap::new();
        for (number, value) in (1..).zip(&self.values) {
            let name = value.text(header, &self.scratch);
            let field = self.names.get(name).copied();
            if seen.insert(name, ()).is_some() {
                let name = field.map(|field| into.member(field).name.clone());
                let what = format!("column {number} of the file's header has the name of another");
                return Err((RejectCode::Malformed, what, name));
            }
            if field.is_none() && self.refuse_unknown {
                let what =
                    format!("column {number} of the file's header is not declared in the schema");
                return Err((RejectCode::UnknownField, what, None));
            }
            fields.push(field);
        }
        let mut absent = Vec::new();
        for field in (0..self.names.len()).filter(|field| !fields.contains(&Some(*field))) {
            let member = into.member(field);
            if !member.optional {
                let what = format!("the file's header has no column `{}`", member.name);
                return Err((RejectCode::MissingField, what, Some(member.name.clone())));
            }
            absent.push(field);
        }
        Ok(Columns { fields, absent })
    }
}

#[cold]
fn ragged(values: usize, columns: usize) -> Fault {
    let what = format!("the row has {values} values, {columns} are expected");
    Fault::new(RejectCode::Malformed, None, what, None)
}

impl Column {
    /// Reads a value's text by the declared type.
    fn read_text(&mut self, text: &[u8], at: usize) -> Parsed<()> {
        match self.data.read_text(text) {
            Ok(()) => {
                self.nulls.append_non_null();
                Ok(())
            }
            Err(wrong) => Err(self.fault(wrong, Some(b'"'), at)),
        }
    }
}

impl Data {
    fn read_text(&mut self, text: &[u8]) -> Result<(), Wrong> {
        match self {
            Self::Text(column) => {
                column.bytes.extend_from_slice(text);
                end_value(column)?;
            }
            Self::Int(values) => values.push(number(text)?.int()?),
            Self::Long(values) => values.push(number(text)?.long()?),
            Self::Float(values) => values.push(number(text)?.float()?),
            Self::Double(values) => values.push(number(text)?.double()?),
            Self::Boolean(values) => values.append(match text {
                b"true" => true,
                b"false" => false,
                _ => return Err(Wrong::Content("neither `true` nor `false`")),
            }),
            &mut Self::Decimal {
                ref mut values,
                precision,
                scale,
            } => values.push(number(text)?.decimal(precision, scale)?),
            Self::Date(values) => values.push(time::date(text).map_err(Wrong::Content)?),
            Self::Timestamp { values, zone, unit } => values.push(match number(text) {
                // A text that is a number is no time of day, and the other way round.
                Ok(number) => epoch_micros(&number, *unit)?,
                Err(_) => time::timestamp(text, zone.as_ref()).map_err(Wrong::Content)?,
            }),
            Self::Binary(column) => {
                decode_base64(text, &mut column.bytes)?;
                end_value(column)?;
            }
            Self::List { .. } | Self::Map { .. } | Self::Struct(_) => return Err(Wrong::Kind),
        }
        Ok(())
    }
}

/// A text that is a number as JSON writes it, and nothing else.
fn number(text: &[u8]) -> Result<Number<'_>, Wrong> {
    const NONE: Wrong = Wrong::Content("no number");
    let mut cursor = Cursor::new(text)?;
    let number = value::number(cursor.peek(), &mut cursor).map_err(|_| NONE)?;
    if cursor.at() == text.len() {
        Ok(number)
    } else {
        Err(NONE)
    }
}
