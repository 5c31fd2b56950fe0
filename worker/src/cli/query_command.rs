//! `evp query`: which pipeline is asked, and where its tables are.

use std::io::{stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::place::{Place, PlaceArgs};
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
    /// Where its paths lead; of a DIR everything is below it.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How rows are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: query::Output,
}

/// Opens, asks, prints.
pub async fn run(args: QueryArgs) -> Result<ExitCode, Fault> {
    let mut place = args.place;
    let (file, sql) = match (args.file, args.words.as_slice()) {
        (Some(file), [sql]) => (file, sql),
        (None, [dir, sql]) => {
            let dir = Path::new(dir);
            place.local = place.local.or_else(|| Some(dir.to_owned()));
            (dir.join("pipeline.yaml"), sql)
        }
        _ => {
            return Err(Fault::Usage(
                "give either -f FILE and the SQL, or a DIR and the SQL".into(),
            ));
        }
    };
    let written = Place::to_read(&file, &place, true)?.written()?;
    query::run(&written, sql, args.output, &mut stdout(), &mut stderr()).await?;
    Ok(ExitCode::SUCCESS)
}
