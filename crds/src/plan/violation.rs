//! The catalogue of findings. A violation names the field it speaks of; files and carets are added by who has the text.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $title:literal;)+) => {
        /// `EVP` + four digits: 1xxx the file, 20xx the manifest, 21xx its SQL.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Such as `EVP2107`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("EVP", $number),)+ }
            }

            /// What it is about, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What it means and what to do, for `evp explain`.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc, "\n",)+),)+ }
            }
        }
    };
}

codes! {
    /// The text is not YAML that can be read. The caret shows where reading stopped.
    Syntax = "1001", "the file cannot be read";
    /// A field that the resource does not have. A typo would otherwise be ignored silently: correct it or take it out.
    UnknownField = "1002", "unknown field";
    /// A required field is missing.
    MissingField = "1003", "missing field";
    /// The value has another type than the field.
    WrongType = "1004", "value of another type";
    /// A union must have exactly one of its kinds, such as `kafka`, `files` or `generator` in a source.
    ExactlyOne = "2001", "exactly one kind must be given";
    /// Names of sources, steps and sinks must be DNS labels: lower-case letters, digits and `-`, at most 63 characters.
    Name = "2002", "not a DNS label";
    /// Sources, steps and sinks share one space of names.
    DuplicateName = "2003", "name given twice";
    /// `from` must name a source or a step.
    UnknownFrom = "2004", "`from` names nothing";
    /// Steps must not read each other in a circle, nor may a pipeline read a topic that it writes.
    Cycle = "2005", "read in a circle";
    /// A duration is written like `10m` or `1h30m`: up to four numbers, each with a unit of h, m, s, ms.
    Duration = "2006", "not a duration";
    /// A size is a Kubernetes quantity, such as `64Mi`.
    Quantity = "2007", "not a quantity";
    /// A path is `s3://bucket/prefix` or `file:///folder`. Other stores are refused until they are proven.
    StoragePath = "2008", "not a storage path";
    /// Types: string, int, long, float, double, boolean, decimal(p,s), date, timestamp, binary, list<…>, map<string,…>, struct<name: …>.
    DataType = "2009", "not a type";
    /// A field may be declared once.
    DuplicateField = "2010", "field declared twice";
    /// `zone` and `unit` say how a timestamp is read; they mean nothing on other types.
    TimestampOption = "2011", "option of timestamps on another type";
    /// The watermark's column must be a required `timestamp` field: a missing event time is never guessed.
    WatermarkColumn = "2012", "not an event-time column";
    /// An aggregate closes its windows by the watermark of its source.
    WatermarkNeeded = "2013", "the source needs a watermark";
    /// What this version does not do yet is refused rather than ignored.
    NotBuilt = "2014", "not built yet";
    /// Fields that belong together must be given together.
    Together = "2015", "fields belong together";
    /// The value is outside of what the field takes.
    OutOfRange = "2016", "value out of range";
    /// A field that has no meaning here.
    Misplaced = "2018", "field means nothing here";
    /// Tables, checkpoint and dead letters must not lie in one another.
    PathOverlap = "2019", "paths overlap";
    /// Routing records away needs `deadLetter`.
    DeadLetterNeeded = "2020", "deadLetter is needed";
    /// An instant is written in RFC 3339, such as `2026-01-01T00:00:00Z`.
    Instant = "2021", "not an instant";
    /// The address cannot be used.
    Address = "2022", "not an address";
    /// `secretKeyRef` names a Secret of the pipeline's own namespace (lower-case letters, digits, `-` and `.`) and a key in it
    /// (letters, digits, `-`, `_` and `.`).
    Secret = "2023", "not a key of a Secret";
    /// `skip` names a record of a source, by the source's name.
    UnknownSource = "2024", "no such source";
    /// The SQL text cannot be parsed.
    SqlSyntax = "2101", "SQL cannot be parsed";
    /// The SQL text cannot be planned: types, functions or clauses do not fit.
    SqlPlan = "2102", "SQL cannot be planned";
    /// A function that this place does not allow: random, stateful, or an aggregate where rows are expected.
    SqlFunction = "2103", "function not allowed here";
    /// Each measure needs a name: `sum(x) AS total`.
    MeasureName = "2104", "a measure needs a name";
    /// Two columns of one output have the same name.
    DuplicateColumn = "2105", "two columns of one name";
    /// The sink cannot hold a column of this type.
    ColumnType = "2106", "column type the sink cannot hold";
    /// The step or source above has no such column.
    UnknownColumn = "2107", "no such column";
    /// A query between an aggregate and an Update sink must pass the keys unchanged.
    KeysChanged = "2108", "keys do not pass unchanged";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which rule.
    pub code: Code,
    /// The field, such as `spec.steps[2].aggregate.groupBy[0]`.
    pub path: String,
    /// Place inside an SQL text: byte range of the text at `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What is known instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// One fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Violation {
    /// A finding without note and help.
    pub fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            span: None,
            message: message.into(),
            note: None,
            help: None,
        }
    }

    /// Adds the fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what is known instead.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Adds the place inside the SQL text at the path: byte range.
    #[must_use]
    pub fn span(mut self, start: usize, end: usize) -> Self {
        self.span = Some((start, end));
        self
    }

    /// Adds "did you mean", where one of the known names is close.
    #[must_use]
    pub fn did_you_mean<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let best = known
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
            .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
            .min();
        match best {
            Some((_, name)) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.path, self.message)?;
        for more in [&self.note, &self.help].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}
