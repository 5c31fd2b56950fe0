//! PostgreSQL sinks.

use super::super::address::{host, secret};
use super::super::kafka::tls;
use super::super::{Findings, named_once};
use crate::plan::{Code, PostgresPlan, Violation};
use crate::sink::{CreateTable, Postgres};

/// Longest name that the server keeps whole. Bytes.
const MAX_NAME: usize = 63;

pub(super) fn postgres(
    raw: &Postgres,
    path: &str,
    findings: &mut Findings,
) -> Option<PostgresPlan> {
    host(&raw.host, &format!("{path}.host"), findings);
    let names = [
        ("database", &raw.database),
        ("schema", &raw.schema),
        ("table", &raw.table),
        ("username", &raw.username),
    ];
    for (field, text) in names {
        name(text, &format!("{path}.{field}"), findings);
    }
    let port = u16::try_from(raw.port).ok().filter(|port| *port > 0);
    findings.require(port.is_some(), || {
        let message = format!("{} must be a port: 1 to 65535", raw.port);
        Violation::new(Code::OutOfRange, format!("{path}.port"), message)
    });
    let is_own = ["eventpipeline_progress", "eventpipeline_rejects"].contains(&raw.table.as_str());
    findings.require(!is_own, || {
        let message = format!("`{}` is a table that sinks keep for themselves", raw.table);
        Violation::new(Code::Misplaced, format!("{path}.table"), message)
    });
    let password = secret(&raw.password, &format!("{path}.password"), findings);
    let tls = raw
        .tls
        .as_ref()
        .map(|raw| tls(raw, &format!("{path}.tls"), findings));
    if let Some(create) = &raw.create_table {
        indexes(create, &format!("{path}.createTable.indexes"), findings);
    }
    Some(PostgresPlan {
        host: raw.host.clone(),
        port: port?,
        database: raw.database.clone(),
        schema: raw.schema.clone(),
        table: raw.table.clone(),
        username: raw.username.clone(),
        password,
        tls,
        create_table: raw.create_table.as_ref().map(|c| c.indexes.clone()),
    })
}

/// A name that the server takes as it is: it cuts longer ones off.
fn name(text: &str, path: &str, findings: &mut Findings) {
    let fine = (1..=MAX_NAME).contains(&text.len()) && !text.contains('\0');
    findings.require(fine, || {
        let message = format!("`{text}` must be a name of 1 to {MAX_NAME} bytes");
        Violation::new(Code::OutOfRange, path, message)
    });
}

fn indexes(raw: &CreateTable, path: &str, findings: &mut Findings) {
    for (i, index) in raw.indexes.iter().enumerate() {
        findings.require(!raw.indexes[..i].contains(index), || {
            let message = format!("the index on {} is there already", index.join(", "));
            Violation::new(Code::DuplicateColumn, format!("{path}[{i}]"), message)
        });
        named_once(index, &format!("{path}[{i}]"), findings);
    }
}
