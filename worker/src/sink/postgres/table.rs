//! The table that rows go to: what it is, whether it fits, how it is created.

mod column;

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use evp_api::reason;
use evp_core::protocol::digest::Digest;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::connect::{Failure, Server, failed};
use super::encode::sql_type;
use crate::sink::SinkError;
use column::{Column, columns, holds};

/// The first version of the server that has `NULLS NOT DISTINCT`.
const NULLS_NOT_DISTINCT: i32 = 150_000;

/// The first version of the server that is written to.
const OLDEST: i32 = 120_000;

/// Longest name that the server keeps whole. Bytes.
const MAX_NAME: usize = 63;

/// What a sink wants of its table.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Columns that are written.
    pub(super) columns: SchemaRef,
    /// Columns that identify a row; none: rows are only added.
    pub(super) keys: Vec<String>,
    /// A null in a key is a value like others.
    pub(super) null_keys: bool,
    /// Columns of each further index; `None`: the table must exist.
    pub(super) create: Option<Vec<Vec<String>>>,
}

/// What there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// A table that fits.
    Fits,
    /// None, or not all indexes: they are to be created.
    Due,
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as SQL lists them.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// The server's version. `Err`: nothing can be written to it.
pub(super) async fn version(server: &Server, work: &Transaction<'_>) -> Result<i32, Failure> {
    let asked = "SELECT current_setting('server_version_num')::int, \
        (SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()), \
        EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    let row = work
        .query_typed_one(asked, &[(&server.plan.schema, Type::TEXT)])
        .await;
    let row = row.map_err(failed("the server's version"))?;
    let (version, encoding, schema): (i32, String, bool) = (row.get(0), row.get(1), row.get(2));
    if version < OLDEST {
        let what = format!(
            "the server is of version {}; 12 is the oldest that is written to",
            version / 10_000
        );
        return Err(server.stop(reason::TABLE_MISMATCH, &what).into());
    }
    if encoding != "UTF8" {
        let what = format!(
            "the database's encoding is {encoding}, which cannot hold every text; use one with UTF8"
        );
        return Err(server.stop(reason::TABLE_MISMATCH, &what).into());
    }
    if !schema {
        let what = format!("there is no schema {}; create it", server.plan.schema);
        return Err(missing(server, &what).into());
    }
    Ok(version)
}

/// It may come.
fn missing(server: &Server, what: &str) -> SinkError {
    SinkError::Unavailable {
        reason: reason::TABLE_MISSING,
        message: format!(
            "{}: {what}; it is looked for again, nothing is lost",
            server.plan.target()
        ),
    }
}

impl Wanted {
    /// Looks at the table. `Err`: it does not fit, or is not there and not to be created.
    pub(super) async fn look(
        &self,
        server: &Server,
        (work, version): (&Transaction<'_>, i32),
    ) -> Result<Found, Failure> {
        let asked = "SELECT c.oid, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = $2";
        let names = [
            (&server.plan.schema as _, Type::TEXT),
            (&server.plan.table as _, Type::TEXT),
        ];
        let found = work.query_typed_opt(asked, &names).await;
        let found = found.map_err(failed("the table cannot be looked at"))?;
        let Some(found) = found else {
            if self.create.is_some() {
                return Ok(self.can_create(server, version).map(|()| Found::Due)?);
            }
            let what = "there is no such table; create it, or give the sink `createTable`";
            return Err(missing(server, what).into());
        };
        let (oid, kind): (u32, String) = (found.get(0), found.get(1));
        if !matches!(kind.as_str(), "r" | "p") {
            let what = "it is no table; rows are written to tables alone";
            return Err(server.stop(reason::TABLE_MISMATCH, what).into());
        }
        let there = columns(work, oid).await?;
        self.columns_fit(server, &there)?;
        self.key_fits(server, (work, version, oid), &there).await?;
        self.indexes(server, work).await
    }

    /// Group keys that may be null need an index that takes nulls for equal.
    fn can_create(&self, server: &Server, version: i32) -> Result<(), SinkError> {
        match self.nullable_key() {
            Some(key) if version < NULLS_NOT_DISTINCT => Err(server.stop(
                reason::TABLE_MISMATCH,
                &format!(
                    "its key {key} may be null, and a server before version 15 takes no two nulls for equal; use a newer \
                     server, or replace nulls by `coalesce` above the aggregate"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// A key that may be null and is a value then.
    fn nullable_key(&self) -> Option<&String> {
        let may_be_null = |key: &&String| {
            let column = self.columns.column_with_name(key);
            column.is_some_and(|(_, field)| field.is_nullable())
        };
        self.keys
            .iter()
            .find(may_be_null)
            .filter(|_| self.null_keys)
    }

    fn columns_fit(&self, server: &Server, there: &[Column]) -> Result<(), SinkError> {
        for field in self.columns.fields() {
            let name = field.name();
            let wanted = sql_type(field.data_type()).unwrap_or_default();
            let Some(column) = there.iter().find(|column| &column.name == name) else {
                let fix = format!("ALTER TABLE … ADD COLUMN {} {wanted}", quoted(name));
                return Err(server.stop(
                    reason::TABLE_MISMATCH,
                    &format!("it has no column {name}; {fix}"),
                ));
            };
            if column.generated || !holds(&column.sql_type, field) {
                let what = if column.generated {
                    "computed by the server"
                } else {
                    &column.sql_type
                };
                let what = format!(
                    "its column {name} is {what}, and the sink writes {wanted}; make it {wanted}, or CAST it in a query step"
                );
                return Err(server.stop(reason::TABLE_MISMATCH, &what));
            }
        }
        let needed =
            |column: &&Column| column.needed && self.columns.index_of(&column.name).is_err();
        match there.iter().find(needed) {
            None => Ok(()),
            Some(column) => {
                let what = format!(
                    "its column {} is NOT NULL without a default, and the sink does not write it; give it a default",
                    column.name
                );
                Err(server.stop(reason::TABLE_MISMATCH, &what))
            }
        }
    }

    /// A unique index of just the keys: without one the server cannot tell rows apart.
    async fn key_fits(
        &self,
        server: &Server,
        (work, version, oid): (&Transaction<'_>, i32, u32),
        there: &[Column],
    ) -> Result<(), Failure> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let equal_nulls = if version < NULLS_NOT_DISTINCT {
            "false"
        } else {
            "i.indnullsnotdistinct"
        };
        let asked = format!(
            "SELECT (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid \
             AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])), {equal_nulls} FROM pg_index i \
             WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
             AND i.indexprs IS NULL"
        );
        let found = work.query_typed(&asked, &[(&oid, Type::OID)]).await;
        let found = found.map_err(failed("the table's indexes cannot be looked at"))?;
        let mut wanted = self.keys.clone();
        wanted.sort();
        let mut fitting = found.iter().filter(|row| {
            let mut columns: Vec<String> = row.get(0);
            columns.sort();
            columns == wanted
        });
        let nullable = self.nullable_key().filter(|key| {
            let column = there.iter().find(|column| &&column.name == key);
            column.is_some_and(|column| !column.not_null)
        });
        let fits = match nullable {
            None => fitting.next().is_some(),
            Some(_) => fitting.any(|row| row.get(1)),
        };
        if fits {
            return Ok(());
        }
        let nulls = if nullable.is_some() {
            " NULLS NOT DISTINCT"
        } else {
            ""
        };
        let keys = listed(&self.keys);
        let what = format!(
            "it has no unique index on ({keys}); CREATE UNIQUE INDEX ON {} ({keys}){nulls}",
            server.table()
        );
        Err(server.stop(reason::TABLE_MISMATCH, &what).into())
    }

    async fn indexes(&self, server: &Server, work: &Transaction<'_>) -> Result<Found, Failure> {
        let wanted = self.create.iter().flatten();
        let wanted: Vec<String> = wanted
            .map(|columns| index_name(&server.plan.table, columns, "idx"))
            .collect();
        let asked = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
            JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
            WHERE n.nspname = $1 AND t.relname = $2 AND c.relname = ANY ($3)";
        let names = [
            (&server.plan.schema as _, Type::TEXT),
            (&server.plan.table as _, Type::TEXT),
            (&wanted as _, Type::TEXT_ARRAY),
        ];
        let found = work.query_typed_one(asked, &names).await;
        let found: i64 = found
            .map_err(failed("the table's indexes cannot be looked at"))?
            .get(0);
        Ok(if usize::try_from(found) == Ok(wanted.len()) {
            Found::Fits
        } else {
            Found::Due
        })
    }

    /// What creates the table and its indexes, where they are not there.
    pub(super) fn create_sql(&self, server: &Server, version: i32) -> String {
        let columns: Vec<_> = self
            .columns
            .fields()
            .iter()
            .map(|field| {
                let null = if field.is_nullable() { "" } else { " NOT NULL" };
                let sql_type = sql_type(field.data_type()).unwrap_or_default();
                format!("{} {sql_type}{null}", quoted(field.name()))
            })
            .collect();
        // Writing to a String cannot fail.
        let (table, name) = (server.table(), &server.plan.table);
        let mut sql = format!(
            "CREATE TABLE IF NOT EXISTS {table} ({});\n",
            columns.join(", ")
        );
        if !self.keys.is_empty() {
            let nulls = if version < NULLS_NOT_DISTINCT {
                ""
            } else {
                " NULLS NOT DISTINCT"
            };
            let index = quoted(&index_name(name, &self.keys, "key"));
            let _ = writeln!(
                sql,
                "CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} ({}){nulls};",
                listed(&self.keys)
            );
        }
        for columns in self.create.iter().flatten() {
            let index = quoted(&index_name(name, columns, "idx"));
            let _ = writeln!(
                sql,
                "CREATE INDEX IF NOT EXISTS {index} ON {table} ({});",
                listed(columns)
            );
        }
        sql
    }
}

impl Server {
    /// The table as SQL names it.
    pub(super) fn table(&self) -> String {
        self.beside(&self.plan.table)
    }

    /// A table of the same schema.
    pub(super) fn beside(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.plan.schema), quoted(name))
    }
}

/// `<table>_<columns>_<end>_<checksum>`: as the server itself names indexes, and told from those of other tables and columns that
/// are spelled alike in a row.
fn index_name(table: &str, columns: &[String], end: &str) -> String {
    let whole = format!("{table}_{}_{end}", columns.join("_"));
    let framed = serde_json::json!([table, columns, end]).to_string();
    let kept = &whole[..whole.floor_char_boundary(MAX_NAME - 9)];
    format!("{kept}_{}", &Digest::of(framed.as_bytes()).0[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_of_indexes_meet() {
        let columns = |last: &str| vec!["c".repeat(40), "d".repeat(40), last.to_owned()];
        let name = |last: &str| index_name("t", &columns(last), "idx");
        let short = |table: &str, columns: &[&str]| {
            let columns: Vec<_> = columns.iter().map(|&c| c.to_owned()).collect();
            index_name(table, &columns, "idx")
        };
        assert!(short("t", &["a", "b"]).starts_with("t_a_b_idx_"));
        assert_ne!(short("t", &["a", "b"]), short("t", &["a_b"]));
        assert_ne!(short("t_a", &["b"]), short("t", &["a", "b"]));
        assert_eq!(name("x").len(), MAX_NAME);
        assert_ne!(name("x"), name("y"));
    }
}
