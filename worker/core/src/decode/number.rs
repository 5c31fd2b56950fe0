//! Numbers: the grammar of RFC 8259 and exact conversions. Nothing is cut off and nothing guessed.
//!
//! - integers carry neither fraction nor exponent: `1.0` and `1e2` are no integers, `-0` is 0;
//! - doubles and floats are correctly rounded; a value too large for the type is an error, never infinity;
//! - decimals (and numeric timestamps) are exact: digits below the scale must be zero.

use super::cursor::{Cursor, Parsed};

/// A number as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    /// Its text.
    text: &'a [u8],
    negative: bool,
    /// The digits without sign and point; meaningless where `!fits`.
    mantissa: u64,
    /// All digits fit `mantissa`.
    fits: bool,
    /// Value = ± mantissa × 10^exponent.
    exponent: i64,
    /// Neither fraction nor exponent is written.
    integral: bool,
}

/// Why a number does not fit a type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Misfit {
    /// A fraction or an exponent where an integer is expected.
    NotIntegral,
    /// Too large or too small for the type.
    OutOfRange,
    /// Non-zero digits below the scale.
    TooPrecise,
}

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Exponents are held within this; beyond it every conversion has long said out of range (or zero).
const EXPONENT_LIMIT: i64 = 1 << 40;

impl<'a> Cursor<'a> {
    /// Takes a number; the cursor is at `-` or a digit.
    #[inline]
    pub(super) fn number(&mut self) -> Parsed<Number<'a>> {
        let start = self.at();
        let negative = self.peek() == Some(b'-');
        if negative {
            self.bump();
        }
        let mut digits = Digits::default();
        match self.peek() {
            Some(b'0') => self.bump(),
            Some(b'1'..=b'9') => self.digits(&mut digits),
            _ => return Err(self.fault("a digit is expected")),
        }
        let mut number = Number {
            text: &[],
            negative,
            mantissa: 0,
            fits: true,
            exponent: 0,
            integral: true,
        };
        if self.peek() == Some(b'.') {
            self.bump();
            number.integral = false;
            let point = self.at();
            self.digits(&mut digits);
            number.exponent = -len_i64(self.at() - point);
            if number.exponent == 0 {
                return Err(self.fault("a digit is expected after the point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            number.integral = false;
            number.exponent += self.exponent()?;
        }
        number.mantissa = digits.value;
        number.fits = digits.significant <= 19;
        number.text = self.record().get(start..self.at()).unwrap_or_default();
        Ok(number)
    }

    #[inline]
    fn digits(&mut self, digits: &mut Digits) {
        while let Some(c @ b'0'..=b'9') = self.peek() {
            self.bump();
            digits.push(c - b'0');
        }
    }

    fn exponent(&mut self) -> Parsed<i64> {
        self.bump();
        let negative = match self.peek() {
            Some(b'-') => {
                self.bump();
                true
            }
            Some(b'+') => {
                self.bump();
                false
            }
            _ => false,
        };
        let start = self.at();
        let mut value: i64 = 0;
        while let Some(c @ b'0'..=b'9') = self.peek() {
            self.bump();
            value = (value * 10 + i64::from(c - b'0')).min(EXPONENT_LIMIT);
        }
        if self.at() == start {
            return Err(self.fault("a digit is expected in the exponent"));
        }
        Ok(if negative { -value } else { value })
    }
}

#[derive(Default)]
struct Digits {
    value: u64,
    /// Digits after leading zeros; 19 always fit.
    significant: u32,
}

impl Digits {
    #[inline]
    fn push(&mut self, digit: u8) {
        self.value = self.value.wrapping_mul(10).wrapping_add(u64::from(digit));
        self.significant = self
            .significant
            .saturating_add(u32::from(self.significant > 0 || digit > 0));
    }
}

fn len_i64(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(EXPONENT_LIMIT)
}

impl Number<'_> {
    /// As a 64-bit integer.
    #[inline]
    pub(super) fn long(&self) -> Result<i64, Misfit> {
        if !self.integral {
            return Err(Misfit::NotIntegral);
        }
        let value = if self.negative {
            -i128::from(self.mantissa)
        } else {
            i128::from(self.mantissa)
        };
        match i64::try_from(value) {
            Ok(value) if self.fits => Ok(value),
            _ => Err(Misfit::OutOfRange),
        }
    }

    /// As a 32-bit integer.
    #[inline]
    pub(super) fn int(&self) -> Result<i32, Misfit> {
        i32::try_from(self.long()?).map_err(|_| Misfit::OutOfRange)
    }

    /// As a double, correctly rounded.
    #[inline]
    pub(super) fn double(&self) -> Result<f64, Misfit> {
        // Both the mantissa and the power are exact, so one operation rounds once (Clinger).
        if self.fits && self.mantissa <= 1 << 53 && (-22..=22).contains(&self.exponent) {
            #[expect(clippy::cast_precision_loss, reason = "at most 2^53: exact")]
            let mantissa = self.mantissa as f64;
            let power = EXACT_POWERS[usize::try_from(self.exponent.unsigned_abs()).unwrap_or(0)];
            let value = if self.exponent < 0 {
                mantissa / power
            } else {
                mantissa * power
            };
            return Ok(if self.negative { -value } else { value });
        }
        self.parse::<f64>()
            .filter(|v| v.is_finite())
            .ok_or(Misfit::OutOfRange)
    }

    /// As a float, rounded once.
    pub(super) fn float(&self) -> Result<f32, Misfit> {
        self.parse::<f32>()
            .filter(|v| v.is_finite())
            .ok_or(Misfit::OutOfRange)
    }

    fn parse<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.text).ok()?.parse().ok()
    }

    /// value × 10^scale as an integer, exactly; `scale` may be negative.
    pub(super) fn scaled(&self, scale: i8) -> Result<i128, Misfit> {
        let (value, exponent) = self.significant()?;
        if value == 0 {
            return Ok(0);
        }
        let shift = exponent.saturating_add(i64::from(scale));
        if shift < 0 {
            return Err(Misfit::TooPrecise);
        }
        let factor = u32::try_from(shift)
            .ok()
            .and_then(|s| 10_i128.checked_pow(s));
        let scaled = factor
            .and_then(|f| value.checked_mul(f))
            .ok_or(Misfit::OutOfRange)?;
        Ok(if self.negative { -scaled } else { scaled })
    }

    /// Digits without trailing zeros, and the power of ten they count.
    fn significant(&self) -> Result<(i128, i64), Misfit> {
        let mut value: i128 = 0;
        let mut zeros: u32 = 0;
        for &c in self.text.iter().take_while(|c| !matches!(c, b'e' | b'E')) {
            match c {
                b'0' => zeros = zeros.saturating_add(1),
                b'1'..=b'9' => {
                    if value == 0 {
                        value = i128::from(c - b'0');
                    } else {
                        value = 10_i128
                            .checked_pow(zeros.saturating_add(1))
                            .and_then(|f| value.checked_mul(f))
                            .and_then(|v| v.checked_add(i128::from(c - b'0')))
                            .ok_or(Misfit::OutOfRange)?;
                    }
                    zeros = 0;
                }
                _ => {}
            }
        }
        Ok((value, self.exponent.saturating_add(i64::from(zeros))))
    }

    /// As a decimal of that precision and scale: the unscaled integer.
    pub(super) fn decimal(&self, precision: u8, scale: i8) -> Result<i128, Misfit> {
        let value = self.scaled(scale)?;
        match 10_i128.checked_pow(u32::from(precision)) {
            Some(limit) if value.abs() < limit => Ok(value),
            _ => Err(Misfit::OutOfRange),
        }
    }
}
