//! Cutting a file into records: lines, or rows of CSV, whose quoted values may hold line ends.
//!
//! Where a record ends depends on nothing but the bytes and the size limit: not on how much of the file was at hand. A row
//! whose quotes do not fit (a quote inside an unquoted value, something after a closing one, one that is not closed within
//! the limit) is its first line, so that a lost quote harms its own line and not those after it.

use std::ops::Range;

use evp_api::plan::{CsvPlan, FormatPlan};
use memchr::{memchr, memchr3};

/// How a file is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// A record a line.
    Lines,
    /// A row of CSV.
    Rows(Marks),
}

/// The two characters that mean something in CSV.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Marks {
    /// Between two values.
    pub delimiter: u8,
    /// Around a value.
    pub quote: u8,
}

/// What the bytes begin with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A record.
    Record {
        /// Its bytes, without the line end.
        value: Range<usize>,
        /// Where the next one begins.
        end: usize,
    },
    /// A line without anything in it: no record.
    Blank {
        /// Where the next line begins.
        end: usize,
    },
    /// A record that is larger than the limit: it ends with its line, and that is not here yet.
    TooLong,
    /// That cannot be said yet.
    More,
}

/// How a row goes on.
enum Scan {
    /// It ends before this byte, or there with the input.
    Ends(usize),
    /// Its quotes do not fit.
    Misfit,
    /// It goes on behind the last byte.
    Open,
}

impl From<&FormatPlan> for Framing {
    fn from(format: &FormatPlan) -> Self {
        match format {
            FormatPlan::Json => Self::Lines,
            FormatPlan::Csv(csv) => Self::Rows(csv.into()),
        }
    }
}

impl From<&CsvPlan> for Marks {
    fn from(plan: &CsvPlan) -> Self {
        Self {
            delimiter: plan.delimiter,
            quote: plan.quote,
        }
    }
}

impl Framing {
    /// The first record. `is_all`: nothing follows these bytes in the file. `most`: bytes of the largest record.
    pub fn first(self, bytes: &[u8], is_all: bool, most: usize) -> Frame {
        // A record and its line end: what is beyond is not looked at, so that it cannot matter whether it is here.
        let window = bytes.get(..most.saturating_add(2)).unwrap_or(bytes);
        let is_full = window.len() >= most.saturating_add(2);
        let is_all = is_all && !is_full;
        let ended = match self {
            Self::Lines => return line(window, is_all, is_full).without_blank(bytes, true),
            Self::Rows(marks) => marks.scan(window, is_all),
        };
        let frame = match ended {
            Scan::Ends(at) => cut(window, at),
            Scan::Open if !is_all && !is_full => Frame::More,
            Scan::Misfit | Scan::Open => line(window, is_all, is_full),
        };
        frame.without_blank(bytes, false)
    }
}

impl Frame {
    fn without_blank(self, bytes: &[u8], spaces: bool) -> Self {
        match self {
            Self::Record { value, end } => {
                let text = &bytes[value.clone()];
                let is_blank = text
                    .iter()
                    .all(|b| spaces && matches!(b, b' ' | b'\t' | b'\r'));
                if is_blank {
                    Self::Blank { end }
                } else {
                    Self::Record { value, end }
                }
            }
            other => other,
        }
    }
}

/// The first line as a record.
fn line(window: &[u8], is_all: bool, is_full: bool) -> Frame {
    match memchr(b'\n', window) {
        Some(at) => cut(window, at),
        None if is_all => cut(window, window.len()),
        None if is_full => Frame::TooLong,
        None => Frame::More,
    }
}

/// A record whose line end, if it has one, is at this byte.
fn cut(window: &[u8], at: usize) -> Frame {
    let ended = at < window.len();
    let returns = ended && at > 0 && window[at - 1] == b'\r';
    Frame::Record {
        value: 0..at - usize::from(returns),
        end: at + usize::from(ended),
    }
}

impl Marks {
    /// Where the first row ends: the index of its line feed.
    fn scan(self, bytes: &[u8], is_all: bool) -> Scan {
        let mut at = 0;
        loop {
            let after = if bytes.get(at) == Some(&self.quote) {
                match self.close(bytes, at + 1) {
                    Some(after) => after,
                    None => return Scan::Open,
                }
            } else {
                let rest = bytes.get(at..).unwrap_or_default();
                match memchr3(self.delimiter, self.quote, b'\n', rest) {
                    Some(found) if rest[found] == self.quote => return Scan::Misfit,
                    Some(found) => at + found,
                    None if is_all => return Scan::Ends(bytes.len()),
                    None => return Scan::Open,
                }
            };
            match (bytes.get(after), bytes.get(after + 1)) {
                (Some(&b), _) if b == self.delimiter => at = after + 1,
                (Some(b'\n'), _) => return Scan::Ends(after),
                (Some(b'\r'), Some(b'\n')) => return Scan::Ends(after + 1),
                (None, _) if is_all => return Scan::Ends(after),
                (None, _) | (Some(b'\r'), None) if !is_all => return Scan::Open,
                _ => return Scan::Misfit,
            }
        }
    }

    /// The byte after the quote that closes a value whose text begins here; `None`: it is not here.
    fn close(self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let quote = at + memchr(self.quote, bytes.get(at..)?)?;
            if bytes.get(quote + 1) != Some(&self.quote) {
                return Some(quote + 1);
            }
            at = quote + 2;
        }
    }
}

#[cfg(test)]
mod tests;
