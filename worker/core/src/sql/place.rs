//! Places inside an SQL text: line and column to byte ranges.

use sqlparser::tokenizer::Span;

/// A text to point into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a>(pub(super) &'a str);

impl Place<'_> {
    /// The byte range of a parser's span.
    pub(super) fn of_span(self, span: Span) -> Option<(usize, usize)> {
        let start = self.offset(span.start.line, span.start.column)?;
        let end = self.offset(span.end.line, span.end.column)?;
        (start < end).then_some((start, end))
    }

    /// Lines and columns count from 1; columns count characters.
    fn offset(self, line: u64, column: u64) -> Option<usize> {
        let before = usize::try_from(line.checked_sub(1)?).ok()?;
        let start: usize = self
            .0
            .split_inclusive('\n')
            .take(before)
            .map(str::len)
            .sum();
        let skip = usize::try_from(column.checked_sub(1)?).ok()?;
        let rest = self.0.get(start..)?;
        Some(
            start
                + rest
                    .char_indices()
                    .nth(skip)
                    .map_or(rest.len(), |(at, _)| at),
        )
    }
}

/// The place that a parser's message names at its end: `… at Line: 1, Column: 7`.
pub(super) fn of_message(sql: &str, message: &str) -> Option<(usize, usize)> {
    let (_, place) = message.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    let start = Place(sql).offset(line.parse().ok()?, digits.parse().ok()?)?;
    let word = sql[start..]
        .find(char::is_whitespace)
        .unwrap_or(sql.len() - start)
        .max(1);
    Some((start, (start + word).min(sql.len())))
}

/// The first place at which a whole word stands.
pub(super) fn of_word(sql: &str, word: &str) -> Option<(usize, usize)> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |&(at, _): &(usize, &str)| {
        !sql[..at].ends_with(inside) && !sql[at + word.len()..].starts_with(inside)
    };
    sql.match_indices(word)
        .find(whole)
        .map(|(at, _)| (at, at + word.len()))
}

/// A message without what follows its first line.
pub(super) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
