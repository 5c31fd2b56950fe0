//! A JSON object with declared members: the record itself, or a struct inside it. Members go straight into their columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields};
use hashbrown::HashMap;

use super::column::{Column, arrow_type};
use super::cursor::{Cursor, Fault, Keys, Parsed, malformed};
use crate::dead_letter::RejectCode;

/// One declared member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// May be absent or null.
    pub(super) optional: bool,
    pub(super) column: Column,
}

/// Declared members and how they are found.
#[derive(Debug)]
pub(super) struct Object {
    members: Vec<Member>,
    /// `"name"` as it stands in most records; empty where the name needs escapes.
    quoted: Vec<Vec<u8>>,
    index: HashMap<Vec<u8>, usize>,
    /// Number of the object in which a member was last seen.
    seen: Vec<u64>,
    /// Number of the object being read.
    number: u64,
    refuse_unknown: bool,
}

impl Object {
    pub(super) fn new(members: Vec<Member>, refuse_unknown: bool) -> Self {
        let plain = |name: &str| !name.bytes().any(|b| b == b'"' || b == b'\\' || b < 0x20);
        let quote = |m: &Member| {
            if plain(&m.name) {
                format!("\"{}\"", m.name).into_bytes()
            } else {
                Vec::new()
            }
        };
        Self {
            quoted: members.iter().map(quote).collect(),
            index: members
                .iter()
                .enumerate()
                .map(|(i, m)| (m.name.clone().into_bytes(), i))
                .collect(),
            seen: vec![0; members.len()],
            number: 0,
            members,
            refuse_unknown,
        }
    }

    /// Reads an object whose opening brace makes the nesting `depth` levels deep, and appends one value to every column.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: u32,
        keys: &mut Keys,
    ) -> Parsed<()> {
        cursor.enter(depth)?;
        self.number += 1;
        let opened = keys.open();
        let mut found = 0;
        let mut guess = 0;
        let mut more = cursor.first_item(b'}');
        while more {
            if let Some(i) = self.declared(cursor, keys, guess)? {
                let member = &mut self.members[i];
                member.column.read(cursor, member.optional, depth, keys)?;
                found += 1;
                guess = i + 1;
            } else {
                cursor.skip_value(depth, keys)?;
            }
            more = cursor.next_item(b'}')?;
        }
        keys.close(opened, cursor)?;
        if found < self.members.len() {
            self.fill_absent()
        } else {
            Ok(())
        }
    }

    /// Takes a key with its colon: the member it names, or `None` for one that is not declared.
    #[inline]
    fn declared(
        &mut self,
        cursor: &mut Cursor<'_>,
        keys: &mut Keys,
        guess: usize,
    ) -> Parsed<Option<usize>> {
        cursor.next_token();
        let at = cursor.at();
        let i = match self.quoted.get(guess) {
            Some(quoted) if !quoted.is_empty() && cursor.rest().starts_with(quoted) => {
                cursor.advance_to(at + quoted.len());
                cursor.expect(b':', "a colon is expected")?;
                guess
            }
            _ => {
                let key = cursor.key(keys)?;
                let Some(&i) = self.index.get(key.bytes(cursor.record(), &keys.text)) else {
                    if self.refuse_unknown {
                        return Err(unknown_field(at));
                    }
                    keys.push(key);
                    return Ok(None);
                };
                i
            }
        };
        if self.seen[i] == self.number {
            return Err(malformed(at, "a key occurs twice in one object"));
        }
        self.seen[i] = self.number;
        Ok(Some(i))
    }

    fn fill_absent(&mut self) -> Parsed<()> {
        for (member, &seen) in self.members.iter_mut().zip(&self.seen) {
            if seen == self.number {
                continue;
            }
            if !member.optional {
                return Err(missing(&member.column.path, None, "absent"));
            }
            member.column.push_null();
        }
        Ok(())
    }

    /// A member by its number.
    pub(super) fn member(&mut self, number: usize) -> &mut Member {
        &mut self.members[number]
    }

    pub(super) fn len(&self) -> usize {
        self.members.first().map_or(0, |m| m.column.len())
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.members.iter_mut().for_each(|m| m.column.reserve(rows));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.members.iter_mut().for_each(|m| m.column.truncate(len));
    }

    pub(super) fn push_null(&mut self) {
        self.members.iter_mut().for_each(|m| m.column.push_null());
    }

    /// One array a member.
    pub(super) fn finish(&mut self) -> Vec<ArrayRef> {
        self.members.iter_mut().map(|m| m.column.finish()).collect()
    }

    pub(super) fn finish_struct(&mut self, len: usize, nulls: Option<NullBuffer>) -> StructArray {
        if self.members.is_empty() {
            return StructArray::new_empty_fields(len, nulls);
        }
        StructArray::new(self.fields(), self.finish(), nulls)
    }

    /// The members as Arrow fields.
    pub(super) fn fields(&self) -> Fields {
        let field = |m: &Member| {
            Arc::new(Field::new(
                &m.name,
                arrow_type(&m.column.data_type),
                m.optional,
            ))
        };
        self.members.iter().map(field).collect()
    }
}

/// A required member that is not there.
#[cold]
pub(super) fn missing(path: &str, at: Option<usize>, what: &str) -> Fault {
    let what = format!("required field `{path}` is {what}");
    Fault::new(RejectCode::MissingField, at, what, Some(path))
}

#[cold]
fn unknown_field(at: usize) -> Fault {
    let what = "a field that the schema does not declare".to_owned();
    Fault::new(RejectCode::UnknownField, Some(at), what, None)
}
