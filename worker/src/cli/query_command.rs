//! `evp query`: which pipeline is asked, and where its tables are.

use std::io::{stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use evp_core::check::check;

use super::bind::Binding;
use super::run::{RunArgs, storage, written};
use super::{Fault, query};

/// Asks SQL questions of a pipeline's tables: sinks by name, and `dead_letters`.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// Folder of a local run, with its `pipeline.yaml`; then the SQL. With -f only the SQL.
    #[arg(value_name = "[DIR] SQL", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// The manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Map every object-store path below this folder; of a DIR it is that folder.
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
    /// Bind a path, as for `evp run`.
    #[arg(long, value_name = "BINDING")]
    pub bind: Vec<Binding>,
    /// Folder of Secrets: `<name>/<key>`.
    #[arg(long, value_name = "DIR", default_value = "./secrets")]
    pub secrets: PathBuf,
    /// How rows are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: query::Output,
}

/// Opens, asks, prints.
pub async fn run(args: QueryArgs) -> Result<ExitCode, Fault> {
    let (file, local, sql) = match (&args.file, args.words.as_slice()) {
        (Some(file), [sql]) => (file.clone(), args.local.clone(), sql),
        (None, [dir, sql]) => {
            let dir = Path::new(dir);
            (
                dir.join("pipeline.yaml"),
                args.local.clone().or_else(|| Some(dir.to_owned())),
                sql,
            )
        }
        _ => {
            return Err(Fault::Usage(
                "give either -f FILE and the SQL, or a DIR and the SQL".into(),
            ));
        }
    };
    let manifest = super::one_manifest(&file)?;
    let checked =
        check(&manifest.spec).map_err(|found| Fault::Findings(super::found(&file, &found)))?;
    let place = RunArgs {
        file,
        bind: args.bind,
        local,
        secrets: args.secrets,
        until_end: false,
        duration: None,
        remote: false,
        listen: None,
        memory: None,
    };
    let written = written(&checked, &storage(&checked, &place)?)?;
    query::run(&written, sql, args.output, &mut stdout(), &mut stderr()).await?;
    Ok(ExitCode::SUCCESS)
}
