//! Types of declared fields: a small recursive grammar.

use crate::plan::DataType;

/// Deepest nesting of list, map and struct.
const MAX_DEPTH: usize = 8;

/// Reads a type. `Err` says what was expected.
pub(super) fn parse(text: &str) -> Result<DataType, String> {
    let mut reader = Reader { rest: text.trim() };
    let parsed = reader.data_type(0)?;
    match reader.rest {
        "" => Ok(parsed),
        rest => Err(format!("`{rest}` is left over after the type")),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        let rest = self
            .rest
            .strip_prefix(mark)
            .ok_or_else(|| format!("`{mark}` expected before `{}`", self.rest))?;
        self.rest = rest.trim_start();
        Ok(())
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, String> {
        if depth > MAX_DEPTH {
            return Err(format!("must not nest deeper than {MAX_DEPTH}"));
        }
        Ok(match self.word() {
            "string" => DataType::String,
            "int" => DataType::Int,
            "long" => DataType::Long,
            "float" => DataType::Float,
            "double" => DataType::Double,
            "boolean" => DataType::Boolean,
            "date" => DataType::Date,
            "timestamp" => DataType::Timestamp,
            "binary" => DataType::Binary,
            "decimal" => self.decimal()?,
            "list" => {
                self.expect('<')?;
                let item = self.data_type(depth + 1)?;
                self.expect('>')?;
                DataType::List(Box::new(item))
            }
            "map" => self.map(depth)?,
            "struct" => self.members(depth)?,
            other => return Err(format!("`{other}` must be one of: {}", KNOWN.join(", "))),
        })
    }

    fn decimal(&mut self) -> Result<DataType, String> {
        self.expect('(')?;
        let precision = self.word().parse().ok().filter(|p| (1..=38).contains(p));
        self.expect(',')?;
        let scale: Option<i8> = self.word().parse().ok();
        self.expect(')')?;
        match (precision, scale) {
            (Some(precision), Some(scale)) if u8::try_from(scale).is_ok_and(|s| s <= precision) => {
                Ok(DataType::Decimal { precision, scale })
            }
            _ => Err("decimal(p,s) must have 1 ≤ p ≤ 38 and 0 ≤ s ≤ p".into()),
        }
    }

    fn map(&mut self, depth: usize) -> Result<DataType, String> {
        self.expect('<')?;
        if self.word() != "string" {
            return Err("keys of a map must be `string`".into());
        }
        self.expect(',')?;
        let value = self.data_type(depth + 1)?;
        self.expect('>')?;
        Ok(DataType::Map(Box::new(value)))
    }

    fn members(&mut self, depth: usize) -> Result<DataType, String> {
        self.expect('<')?;
        let mut members: Vec<(String, DataType)> = Vec::new();
        loop {
            let name = self.word();
            if name.is_empty() || members.iter().any(|(known, _)| known == name) {
                return Err(
                    "members of a struct must have distinct names: struct<name: type, …>".into(),
                );
            }
            self.expect(':')?;
            members.push((name.to_owned(), self.data_type(depth + 1)?));
            if self.rest.starts_with(',') {
                self.expect(',')?;
            } else {
                self.expect('>')?;
                return Ok(DataType::Struct(members));
            }
        }
    }
}

/// Names that begin a type.
pub(super) const KNOWN: [&str; 13] = [
    "string",
    "int",
    "long",
    "float",
    "double",
    "boolean",
    "decimal(p,s)",
    "date",
    "timestamp",
    "binary",
    "list<…>",
    "map<string,…>",
    "struct<…>",
];
