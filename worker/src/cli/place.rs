//! Which pipeline a command is about, and where its tables and its checkpoint are: the manifest, and how its paths map to here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evp_api::EventPipelineSpec;
use evp_api::plan::SinkKind;
use evp_core::check::{CheckedPlan, check};

use super::Fault;
use super::bind::{Binding, bind_sources, keep_tables_here};
use super::query::{ParquetFolder, Written};
use crate::job;
use crate::manifest::Manifest;
use crate::secrets::Secrets;
use crate::store::{LocalMapping, Storage, StoreError};

/// Where the paths of a manifest lead.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArgs {
    /// Bind a source or a path: `orders=generator:orders?rate=200`, `s3://lake=./lake`. May be given several times.
    #[arg(long, value_name = "BINDING")]
    pub bind: Vec<Binding>,
    /// Map every object-store path below this folder. Topics that sinks would write become folders `topics/TOPIC` there: files of
    /// lines `{"key": …, "value": {…}}`, each record exactly once. A `postgres` sink becomes a Delta table,
    /// `postgres/<database>/<schema>/<table>`: kept by key below an aggregate in mode Update, else every row is appended and
    /// `keys` are not looked at.
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
    /// Folder of Secrets: `<name>/<key>`.
    #[arg(long, value_name = "DIR", default_value = "./secrets")]
    pub secrets: PathBuf,
}

/// A manifest that was accepted, with its bindings.
pub struct Place {
    /// Its name.
    pub name: String,
    /// The spec under its bindings.
    pub spec: EventPipelineSpec,
    /// What it means.
    pub checked: CheckedPlan,
    /// Where its paths lead.
    pub storage: Storage,
    /// Where its Secrets are.
    pub secrets: Secrets,
    /// The folder that stands for the topics of its sinks; `None`: they are the clusters' own.
    pub topics: Option<PathBuf>,
}

impl Place {
    /// A pipeline that is to run here. `remote`: it may write to object stores and brokers.
    pub fn of(
        manifest: &Manifest,
        file: &Path,
        args: &PlaceArgs,
        remote: bool,
    ) -> Result<Self, Fault> {
        let place = Self::found(manifest, file, args, remote)?;
        if !remote {
            place.refuse_topics()?;
        }
        Ok(place)
    }

    /// Checks a manifest with its bindings and finds where everything lies. `remote`: it may lie in an object store.
    fn found(
        manifest: &Manifest,
        file: &Path,
        args: &PlaceArgs,
        remote: bool,
    ) -> Result<Self, Fault> {
        let mut spec = manifest.spec.clone();
        bind_sources(&mut spec, &args.bind).map_err(Fault::Usage)?;
        if let Some(dir) = &args.local {
            // What the manifest says is judged before it is changed.
            check(&spec).map_err(|found| Fault::Findings(super::found(file, &found)))?;
            for sink in keep_tables_here(&mut spec, &absolute(dir)) {
                tracing::warn!(
                    sink,
                    "its table here gets every row: `keys` are looked at by PostgreSQL alone"
                );
            }
        }
        let checked = check(&spec).map_err(|found| Fault::Findings(super::found(file, &found)))?;
        let storage = storage(&checked, args);
        if !remote {
            refuse_remote(&checked, &storage)?;
        }
        Ok(Self {
            name: manifest.metadata.name.clone(),
            spec,
            checked,
            storage,
            secrets: Secrets::new(&args.secrets),
            topics: args.local.as_ref().map(|dir| absolute(dir).join("topics")),
        })
    }

    /// The same for commands that only read: a folder that is not there stays away.
    pub fn to_read(file: &Path, args: &PlaceArgs, remote: bool) -> Result<Self, Fault> {
        let place = Self::found(&super::one_manifest(file)?, file, args, remote)?;
        Ok(Self {
            storage: place.storage.reading_only(),
            ..place
        })
    }

    /// A laptop must not reach production topics by accident.
    pub(super) fn refuse_topics(&self) -> Result<(), Fault> {
        let mut sinks = self.checked.plan.sinks.iter();
        let written = sinks.find_map(|sink| match &sink.kind {
            SinkKind::Kafka(kafka) if self.topics.is_none() => Some((&sink.name, kafka)),
            _ => None,
        });
        match written {
            None => Ok(()),
            Some((name, kafka)) => Err(Fault::Usage(format!(
                "sink {name} writes topic {} at {}; use --local DIR to have files here for it, or --remote to go there",
                kafka.topic, kafka.bootstrap_servers
            ))),
        }
    }

    /// Targets of the plan's tables, for questions about them.
    pub fn written(&self) -> Result<Written, Fault> {
        Ok(written(&self.checked, &self.storage)?)
    }
}

/// Targets of a plan's tables in a storage.
pub(crate) fn written(checked: &CheckedPlan, storage: &Storage) -> Result<Written, StoreError> {
    let open = |path| storage.open(path).map(|location| job::target(&location));
    let (mut tables, mut folders) = (BTreeMap::new(), Vec::new());
    for sink in &checked.plan.sinks {
        match &sink.kind {
            SinkKind::Delta(delta) => {
                tables.insert(sink.name.to_string(), open(&delta.path)?);
            }
            SinkKind::Parquet(files) => {
                let folder = ParquetFolder {
                    target: open(&files.path)?,
                    schema: checked.sinks[&sink.name].clone(),
                    partition_by: files.partition_by.clone(),
                };
                folders.push((sink.name.to_string(), folder));
            }
            SinkKind::Kafka(_) | SinkKind::Postgres(_) | SinkKind::Stdout => {}
        }
    }
    let letters = checked.plan.dead_letter.as_ref();
    let dead_letters = letters
        .map(|d| Ok::<_, StoreError>((open(&d.path)?, d.format)))
        .transpose()?;
    Ok(Written {
        tables: tables.into_iter().collect(),
        folders,
        dead_letters,
    })
}

fn storage(checked: &CheckedPlan, args: &PlaceArgs) -> Storage {
    let mappings = args.bind.iter().filter_map(|binding| match binding {
        Binding::Path { prefix, dir } => Some(LocalMapping {
            prefix: prefix.clone(),
            dir: absolute(dir),
        }),
        Binding::Source { .. } | Binding::Files { .. } => None,
    });
    let secrets = Secrets::new(&args.secrets);
    let storage = Storage::new(checked.plan.s3.clone(), secrets, mappings.collect());
    match &args.local {
        Some(dir) => storage.with_all_local(absolute(dir)),
        None => storage,
    }
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// A laptop with cloud credentials must not reach production tables by accident.
fn refuse_remote(checked: &CheckedPlan, storage: &Storage) -> Result<(), Fault> {
    for sink in &checked.plan.sinks {
        if let SinkKind::Postgres(postgres) = &sink.kind {
            return Err(Fault::Usage(format!(
                "sink {} writes {}; use --local DIR to have a Delta table here instead, or --remote to go there",
                sink.name,
                postgres.target()
            )));
        }
    }
    match job::places(checked)
        .into_iter()
        .find(|(_, path)| storage.is_remote(path))
    {
        None => Ok(()),
        Some((field, path)) => Err(Fault::Usage(format!(
            "{field} is {path}, a remote store; use --local DIR or --bind {path}=DIR to stay here, or --remote to go there"
        ))),
    }
}
