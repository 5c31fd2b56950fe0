//! PostgreSQL's own client, as a process.

use std::process::Command;

use evp_tests::{bed, succeed};

/// Who asks, and where.
#[derive(Clone)]
pub(crate) struct Psql {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// Settings of the session, `-c name=value …`.
    pub(crate) options: String,
}

impl Psql {
    /// The bed's user in the bed's database.
    pub(crate) fn bed() -> Self {
        Self {
            host: bed("EVP_BED_POSTGRES_HOST"),
            port: bed("EVP_BED_POSTGRES_PORT").parse().unwrap(),
            user: bed("EVP_BED_POSTGRES_USER"),
            password: bed("EVP_BED_POSTGRES_PASSWORD"),
            database: bed("EVP_BED_POSTGRES_DATABASE"),
            options: "-c timezone=UTC".to_owned(),
        }
    }

    /// What is answered, a row a line, values with `|` between them. Stops the test at an error.
    pub(crate) fn print(&self, sql: &str) -> String {
        let mut psql = Command::new(format!("{}/psql", bed("EVP_BED_POSTGRES_BIN")));
        psql.env("PGPASSWORD", &self.password)
            .env("PGOPTIONS", &self.options)
            .args(["-X", "-A", "-t", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", &self.host, "-p", &self.port.to_string()])
            .args(["-U", &self.user, "-d", &self.database, "-c", sql]);
        String::from_utf8(succeed(&mut psql).stdout).unwrap()
    }
}
