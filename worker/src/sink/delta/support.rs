//! Whether we may write a table that somebody else made: features, properties, schema, partition columns.
//!
//! What we do not honour we refuse by name, before anything is written: a constraint not checked or a change feed not fed
//! would be silent damage.

use std::collections::HashMap;

use delta_kernel::snapshot::Snapshot;
use evp_api::reason;
use serde_json::Value;

use super::schema::TableSchema;
use super::target::Target;
use crate::sink::SinkError;

/// Writer features that need nothing of us, or only something that [`refused`] finds when it is in use.
const HARMLESS: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "identityColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// How the sink changes the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writes {
    /// Adds files.
    Appends,
    /// Adds and removes files.
    Upserts,
}

/// Refuses a table that must not be written; `Stop` says why and what to do.
pub(super) fn check(
    target: &Target,
    snapshot: &Snapshot,
    schema: &TableSchema,
    partition_by: &[String],
    writes: Writes,
) -> Result<(), SinkError> {
    let table = snapshot.table_configuration();
    let (metadata, protocol) = (table.metadata(), table.protocol());
    let strange = protocol
        .writer_features()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .find(|feature| !HARMLESS.contains(&feature.as_str()));
    if let Some(feature) = strange {
        return Err(target.stop(
            reason::TABLE_MISMATCH,
            &format!("it has the table feature '{feature}', which this version cannot write; write to another path"),
        ));
    }
    if let Some(why) = refused(metadata.configuration(), metadata.schema_string(), writes) {
        return Err(target.stop(reason::TABLE_MISMATCH, &why));
    }
    if metadata.partition_columns() != partition_by {
        return Err(target.stop(
            reason::TABLE_MISMATCH,
            &format!(
                "it is partitioned by [{}] and the pipeline says partitionBy [{}]; make them equal or write to another path",
                metadata.partition_columns().join(", "),
                partition_by.join(", ")
            ),
        ));
    }
    schema
        .check(metadata.schema_string())
        .map_err(|why| target.stop(reason::TABLE_MISMATCH, &why))
}

/// The first property or column in use that we do not honour, and the way out.
fn refused(properties: &HashMap<String, String>, schema: &str, writes: Writes) -> Option<String> {
    let on = |name: &str| {
        properties
            .get(name)
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
    };
    if let Some(name) = properties
        .keys()
        .find(|k| k.starts_with("delta.constraints."))
    {
        return Some(format!(
            "it has the constraint '{name}', which is not checked here; drop it and use a validate step"
        ));
    }
    if properties
        .get("delta.columnMapping.mode")
        .is_some_and(|mode| mode != "none")
    {
        return Some(
            "it uses column mapping, which cannot be written; write to another path".to_owned(),
        );
    }
    if properties.contains_key("delta.setTransactionRetentionDuration") {
        return Some(
            "it sets delta.setTransactionRetentionDuration, which would forget what has been committed; unset the property"
                .to_owned(),
        );
    }
    if writes == Writes::Upserts {
        if on("delta.appendOnly") {
            return Some("it is append-only (delta.appendOnly) and the sink's mode is Update; unset the property or use mode Append".to_owned());
        }
        if on("delta.enableChangeDataFeed") {
            return Some("it has a change data feed (delta.enableChangeDataFeed), which mode Update does not feed; unset the property".to_owned());
        }
    }
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let columns = schema["fields"].as_array()?;
    columns.iter().find_map(|column| {
        let metadata = column["metadata"].as_object()?;
        let computed = ["delta.generationExpression", "delta.invariants", "delta.identity.start"];
        let found = computed.iter().find(|k| metadata.contains_key(**k))?;
        Some(format!(
            "its column {} has {found}, which is not computed or checked here; write to another path",
            column["name"]
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_do_not_honour_is_refused_by_name() {
        let check = |property: (&str, &str), writes, expected: bool| {
            let properties = HashMap::from([(property.0.to_owned(), property.1.to_owned())]);
            let why = refused(&properties, r#"{"fields":[]}"#, writes);
            assert_eq!(why.is_some(), expected, "{property:?}: {why:?}");
        };
        check(
            ("delta.constraints.positive", "a > 0"),
            Writes::Appends,
            true,
        );
        check(("delta.columnMapping.mode", "name"), Writes::Appends, true);
        check(("delta.columnMapping.mode", "none"), Writes::Appends, false);
        check(
            ("delta.setTransactionRetentionDuration", "interval 1 day"),
            Writes::Appends,
            true,
        );
        check(("delta.appendOnly", "true"), Writes::Appends, false);
        check(("delta.appendOnly", "true"), Writes::Upserts, true);
        check(("delta.appendOnly", "false"), Writes::Upserts, false);
        check(
            ("delta.enableChangeDataFeed", "true"),
            Writes::Upserts,
            true,
        );
        check(
            ("delta.logRetentionDuration", "interval 1 day"),
            Writes::Upserts,
            false,
        );
    }

    #[test]
    fn a_generated_column_is_refused() {
        let schema = r#"{"fields":[{"name":"d","metadata":{"delta.generationExpression":"1"}}]}"#;
        let why = refused(&HashMap::new(), schema, Writes::Appends);
        assert!(why.is_some_and(|why| why.contains("\"d\"")));
    }
}
