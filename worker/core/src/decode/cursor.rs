//! Reading JSON bytes: white space, keys, literals, and skipping a whole value while still validating it.
//!
//! Owns the grammar (RFC 8259, strictly) and the key scratch that finds duplicate keys. Knows nothing of declared fields.
//! The bytes are known to be UTF-8 before a cursor is made: [`Cursor::new`] checks them.

use crate::dead_letter::RejectCode;

/// Objects and arrays may nest this deep; the outermost object is level 1 (semantics 34).
pub(super) const MAX_DEPTH: u32 = 128;

/// Why a record is refused. Boxed: the good way stays small.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Box<Detail>);

/// Holds no content of the record: only declared names and byte positions.
#[derive(Debug)]
pub(super) struct Detail {
    /// Kind.
    pub(super) code: RejectCode,
    /// Byte of the record at which it was noticed; `None`: it is about the record as a whole.
    pub(super) at: Option<usize>,
    /// What is wrong.
    pub(super) what: String,
    /// Path of the declared field it is about.
    pub(super) field: Option<String>,
}

pub(super) type Parsed<T> = Result<T, Fault>;

impl Fault {
    #[cold]
    pub(super) fn new(
        code: RejectCode,
        at: Option<usize>,
        what: String,
        field: Option<&str>,
    ) -> Self {
        let field = field.map(str::to_owned);
        Self(Box::new(Detail {
            code,
            at,
            what,
            field,
        }))
    }
}

/// A position in the bytes of one record.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Text of a key: a range of the record's bytes, or of [`Keys::text`] where it had escapes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    start: usize,
    end: usize,
    escaped: bool,
    /// Where it began in the record.
    at: usize,
}

/// Scratch that is used again for every record: undeclared keys of the open objects, and unescaped texts.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    pub(super) text: Vec<u8>,
}

impl Keys {
    /// Forgets everything: a refused record may have left its open objects behind.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.text.clear();
    }

    /// Opens an object: what [`Keys::close`] takes.
    pub(super) fn open(&self) -> usize {
        self.keys.len()
    }

    /// Remembers a key of the innermost open object.
    pub(super) fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Closes the object: its remembered keys must differ.
    pub(super) fn close(&mut self, opened: usize, cursor: &Cursor<'_>) -> Parsed<()> {
        let duplicate = if self.keys.len() - opened < 2 {
            None
        } else {
            let text = &self.text;
            let mine = &mut self.keys[opened..];
            let bytes = |key: &Key| key.bytes(cursor.bytes, text);
            mine.sort_unstable_by(|a, b| bytes(a).cmp(bytes(b)).then(a.at.cmp(&b.at)));
            mine.windows(2)
                .find(|pair| bytes(&pair[0]) == bytes(&pair[1]))
                .map(|pair| pair[1].at)
        };
        self.keys.truncate(opened);
        match duplicate {
            Some(at) => Err(malformed(at, "a key occurs twice in one object")),
            None => Ok(()),
        }
    }
}

impl Key {
    /// The unescaped text.
    pub(super) fn bytes<'s>(&self, record: &'s [u8], text: &'s [u8]) -> &'s [u8] {
        let from = if self.escaped { text } else { record };
        from.get(self.start..self.end).unwrap_or_default()
    }
}

/// A fault of the grammar.
#[cold]
pub(super) fn malformed(at: usize, what: &str) -> Fault {
    Fault::new(RejectCode::Malformed, Some(at), what.to_owned(), None)
}

impl<'a> Cursor<'a> {
    /// At the first byte of a record; an error if it is not UTF-8.
    pub(super) fn new(bytes: &'a [u8]) -> Parsed<Self> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(Self { bytes, at: 0 }),
            Err(e) => Err(malformed(e.valid_up_to(), "not UTF-8")),
        }
    }

    /// All bytes of the record.
    pub(super) fn record(&self) -> &'a [u8] {
        self.bytes
    }

    /// Index of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte, not taken.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes one byte.
    #[inline]
    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    /// Moves forward to `at`.
    #[inline]
    pub(super) fn advance_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Bytes not yet taken.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Takes white space and shows the byte after it.
    #[inline]
    pub(super) fn next_token(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Takes `byte` after white space.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &str) -> Parsed<()> {
        if self.next_token() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(what))
        }
    }

    /// A fault of the grammar here.
    #[cold]
    pub(super) fn fault(&self, what: &str) -> Fault {
        malformed(
            self.at,
            if self.at >= self.bytes.len() {
                "the record ends too early"
            } else {
                what
            },
        )
    }

    /// Takes `true`, `false` or `null`.
    #[inline]
    pub(super) fn literal(&mut self, word: &'static str) -> Parsed<()> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.fault("neither a string, number, object, array, true, false nor null"))
        }
    }

    /// After the document only white space may follow.
    pub(super) fn finish(&mut self) -> Parsed<()> {
        match self.next_token() {
            None => Ok(()),
            Some(_) => Err(malformed(self.at, "something follows the document")),
        }
    }

    /// Takes a key, its quotes and the colon.
    pub(super) fn key(&mut self, keys: &mut Keys) -> Parsed<Key> {
        self.expect(b'"', "a key in quotes is expected")?;
        let at = self.at - 1;
        let start = self.at;
        let run = self.plain_run();
        let key = if self.peek() == Some(b'"') {
            let end = self.at;
            self.at += 1;
            Key {
                start,
                end,
                escaped: false,
                at,
            }
        } else {
            let start = keys.text.len();
            keys.text.extend_from_slice(run);
            self.text(&mut keys.text)?;
            Key {
                start,
                end: keys.text.len(),
                escaped: true,
                at,
            }
        };
        self.expect(b':', "a colon is expected")?;
        Ok(key)
    }

    /// Takes one value of any kind, `depth` levels down, and validates all of it.
    pub(super) fn skip_value(&mut self, depth: u32, keys: &mut Keys) -> Parsed<()> {
        match self.next_token() {
            Some(b'"') => {
                self.at += 1;
                let start = keys.text.len();
                let done = self.string(&mut keys.text).map(|_| ());
                keys.text.truncate(start);
                done
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b'{') => self.skip_object(depth + 1, keys),
            Some(b'[') => self.skip_array(depth + 1, keys),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.fault("neither a string, number, object, array, true, false nor null")),
        }
    }

    /// Takes an opening bracket that makes the nesting `depth` levels deep.
    #[inline]
    pub(super) fn enter(&mut self, depth: u32) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return Err(malformed(self.at, "more than 128 levels deep"));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_object(&mut self, depth: u32, keys: &mut Keys) -> Parsed<()> {
        self.enter(depth)?;
        let opened = keys.open();
        let mut more = self.first_item(b'}');
        while more {
            let key = self.key(keys)?;
            keys.push(key);
            self.skip_value(depth, keys)?;
            more = self.next_item(b'}')?;
        }
        keys.close(opened, self)
    }

    fn skip_array(&mut self, depth: u32, keys: &mut Keys) -> Parsed<()> {
        self.enter(depth)?;
        let mut more = self.first_item(b']');
        while more {
            self.skip_value(depth, keys)?;
            more = self.next_item(b']')?;
        }
        Ok(())
    }

    /// After an opening bracket: false if the closing one follows, which it takes.
    #[inline]
    pub(super) fn first_item(&mut self, close: u8) -> bool {
        let empty = self.next_token() == Some(close);
        self.at += usize::from(empty);
        !empty
    }

    /// After an item: takes the comma (true) or the closing bracket (false).
    #[inline]
    pub(super) fn next_item(&mut self, close: u8) -> Parsed<bool> {
        match self.next_token() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(c) if c == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.fault("a comma or a closing bracket is expected")),
        }
    }
}
