//! From a byte of a YAML scalar's value to the byte of the text it came from.

use std::ops::Range;

use serde_saphyr::granit_parser::ScalarStyle;

/// For every byte of `value`, and for its end, the offset in `text`. Walks both at once: what indentation, folding,
/// quotes and escapes put between the two is stepped over.
pub(super) fn align(
    text: &str,
    span: &Range<usize>,
    value: &str,
    style: ScalarStyle,
) -> Vec<usize> {
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let quote = usize::from(matches!(
        style,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
    ));
    let mut source = Source {
        text,
        at: span.start + quote,
        indent: span.start - line_start,
        style,
    };
    let mut map = Vec::with_capacity(value.len() + 1);
    // The parser's span of a block scalar leaves out the blank lines it begins with.
    let mut rest = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => value.trim_start_matches('\n'),
        _ => value,
    };
    map.extend(std::iter::repeat_n(source.at, value.len() - rest.len()));
    while let Some(first) = rest.chars().next() {
        source.skip_escaped_breaks();
        let space = rest.len() - rest.trim_start_matches([' ', '\t', '\n']).len();
        let step = if space > 0 && source.folds() {
            let folded = &rest[..space];
            map.extend(std::iter::repeat_n(source.at, folded.len()));
            source.skip_white();
            folded.len()
        } else {
            map.extend(std::iter::repeat_n(source.at, first.len_utf8()));
            source.skip(first);
            first.len_utf8()
        };
        rest = &rest[step..];
    }
    map.push(source.at);
    map
}

struct Source<'t> {
    text: &'t str,
    at: usize,
    /// Spaces before each line of a block scalar.
    indent: usize,
    style: ScalarStyle,
}

impl<'t> Source<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn white(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.len() - rest.trim_start().len()]
    }

    /// Are we at white space that the value has in another form?
    fn folds(&self) -> bool {
        self.style != ScalarStyle::Literal && self.white().contains('\n')
    }

    fn skip_white(&mut self) {
        self.at += self.white().len();
    }

    /// In double quotes a `\` at the end of a line joins it to the next without a space.
    fn skip_escaped_breaks(&mut self) {
        while self.style == ScalarStyle::DoubleQuoted
            && (self.rest().starts_with("\\\n") || self.rest().starts_with("\\\r"))
        {
            self.at += 1;
            self.skip_white();
        }
    }

    /// Steps over what stands for one character of the value.
    fn skip(&mut self, character: char) {
        let rest = self.rest();
        let length = match (self.style, character) {
            (ScalarStyle::Literal, '\n') => {
                let line = rest.find('\n').map_or(rest.len(), |at| at + 1);
                let next = &rest[line..];
                let spaces = next.len() - next.trim_start_matches(' ').len();
                line + spaces.min(self.indent)
            }
            (ScalarStyle::SingleQuoted, '\'') => 2,
            (ScalarStyle::DoubleQuoted, _) if rest.starts_with('\\') => {
                match rest.as_bytes().get(1) {
                    Some(b'x') => 4,
                    Some(b'u') => 6,
                    Some(b'U') => 10,
                    _ => 2,
                }
            }
            _ => character.len_utf8(),
        };
        self.at = (self.at + length).min(self.text.len());
    }
}
