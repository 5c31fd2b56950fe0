//! Strings: their end is found eight bytes at a time; escapes are checked even where nobody reads the text.

use super::cursor::{Cursor, Parsed, malformed};

impl<'a> Cursor<'a> {
    /// Takes bytes up to the next quote, backslash or control character.
    #[inline]
    pub(super) fn plain_run(&mut self) -> &'a [u8] {
        let start = self.at();
        let mut at = start;
        loop {
            let rest = self.record().get(at..).unwrap_or_default();
            let Some(chunk) = rest.first_chunk::<8>() else {
                at += rest
                    .iter()
                    .take_while(|&&b| b != b'"' && b != b'\\' && b >= 0x20)
                    .count();
                break;
            };
            let hits = special_bytes(u64::from_le_bytes(*chunk));
            if hits != 0 {
                at += (hits.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        self.advance_to(at);
        self.record().get(start..at).unwrap_or_default()
    }

    /// Takes the rest of a string after its opening quote and appends its text.
    #[inline]
    pub(super) fn text(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        loop {
            let run = self.plain_run();
            out.extend_from_slice(run);
            if self.peek() == Some(b'"') {
                self.bump();
                return Ok(());
            }
            self.escape(out)?;
        }
    }

    /// Takes the rest of a string after its opening quote, without copying it where it has no escapes.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Parsed<&'s [u8]>
    where
        'a: 's,
    {
        let run = self.plain_run();
        if self.peek() == Some(b'"') {
            self.bump();
            return Ok(run);
        }
        let start = scratch.len();
        scratch.extend_from_slice(run);
        self.text(scratch)?;
        Ok(scratch.get(start..).unwrap_or_default())
    }

    /// One escape sequence; the cursor is at what ended a plain run and is no quote.
    #[cold]
    fn escape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        if self.peek() != Some(b'\\') {
            return Err(self.fault("a control character in a string"));
        }
        self.bump();
        let plain = match self.peek() {
            Some(b'u') => {
                self.bump();
                return self.unicode_escape(out);
            }
            Some(c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            _ => return Err(self.fault("an escape that JSON does not know")),
        };
        self.bump();
        out.push(plain);
        Ok(())
    }

    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        let at = self.at();
        let first = self.four_hex()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.rest().starts_with(b"\\u") {
                    return Err(malformed(at, "half of a surrogate pair"));
                }
                self.advance_to(self.at() + 2);
                let second = self.four_hex()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(malformed(at, "half of a surrogate pair"));
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        let Some(c) = char::from_u32(code) else {
            return Err(malformed(at, "half of a surrogate pair"));
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn four_hex(&mut self) -> Parsed<u32> {
        let Some(digits) = self.rest().first_chunk::<4>() else {
            self.advance_to(self.record().len());
            return Err(self.fault(""));
        };
        let mut code = 0;
        for &digit in digits {
            let Some(value) = char::from(digit).to_digit(16) else {
                return Err(self.fault("four hexadecimal digits are expected"));
            };
            code = code * 16 + value;
        }
        self.advance_to(self.at() + 4);
        Ok(code)
    }
}

/// High bit of each byte that is a quote, a backslash or below 0x20. Only the lowest set bit is exact: a borrow may mark
/// bytes above a true hit.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_byte = |w: u64| w.wrapping_sub(ONES) & !w;
    let quote = zero_byte(word ^ (ONES * 0x22));
    let backslash = zero_byte(word ^ (ONES * 0x5c));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}
