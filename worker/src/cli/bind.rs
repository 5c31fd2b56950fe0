//! Bindings of a local run: which source reads a generator or files here, which object-store path is a folder here.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_api::sink::{Delta, Mode, Postgres};
use evp_api::source::{Files, Generator, Source, Template};
use evp_api::step::Step;

use crate::generate::usual_rate;

/// One `--bind`.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// `SOURCE=generator:TEMPLATE[?rate=N&seed=N&limit=N&backlog=D]`. The source reads what the template writes: its `format` is
    /// the template's.
    Source {
        /// Source of the manifest.
        source: String,
        /// What it reads instead.
        generator: GeneratorBinding,
    },
    /// `SOURCE=files:DIR[?glob=G]`.
    Files {
        /// Source of the manifest.
        source: String,
        /// Folder that is read instead.
        dir: PathBuf,
        /// Which files of it; absent: those that the manifest names, or all.
        glob: Option<String>,
    },
    /// `s3://bucket[/prefix]=DIR`.
    Path {
        /// Prefix of object-store paths.
        prefix: String,
        /// Folder that stands for it.
        dir: PathBuf,
    },
}

/// Events that stand in for a source.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorBinding {
    /// The generator.
    pub generator: Generator,
    /// How long before now its first event lies: so much is there at once.
    pub backlog: Duration,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text
            .split_once('=')
            .ok_or("must be SOURCE=generator:TEMPLATE, SOURCE=files:DIR or s3://BUCKET=DIR")?;
        if from.starts_with("s3://") {
            return Ok(Self::Path {
                prefix: from.trim_end_matches('/').to_owned(),
                dir: to.into(),
            });
        }
        if let Some(files) = to.strip_prefix("files:") {
            return files_binding(from, files);
        }
        let generator = to
            .strip_prefix("generator:")
            .ok_or("a source is bound to generator:TEMPLATE or files:DIR")?;
        Ok(Self::Source {
            source: from.to_owned(),
            generator: generator.parse()?,
        })
    }
}

fn files_binding(source: &str, text: &str) -> Result<Binding, String> {
    let (dir, options) = text.split_once('?').unwrap_or((text, ""));
    let glob = match options.split_once('=') {
        None if options.is_empty() => None,
        Some(("glob", glob)) => Some(glob.to_owned()),
        _ => return Err(format!("no option `{options}`; there is: glob")),
    };
    if dir.is_empty() {
        return Err("files: needs a folder, as in files:./in".to_owned());
    }
    Ok(Binding::Files {
        source: source.to_owned(),
        dir: dir.into(),
        glob,
    })
}

impl FromStr for GeneratorBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (template, options) = text.split_once('?').unwrap_or((text, ""));
        let template: Template = template.parse()?;
        let mut bound = Self {
            generator: Generator {
                template,
                rate: i64::try_from(usual_rate(template)).unwrap_or(i64::MAX),
                seed: 0,
                limit: None,
            },
            backlog: Duration::ZERO,
        };
        for option in options.split('&').filter(|o| !o.is_empty()) {
            bound.set(option)?;
        }
        Ok(bound)
    }
}

impl GeneratorBinding {
    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("`{option}` must be NAME=VALUE"))?;
        let number = || {
            value
                .parse::<i64>()
                .map_err(|_| format!("`{name}` must be a number, not `{value}`"))
        };
        match name {
            "rate" => self.generator.rate = number()?,
            "seed" => self.generator.seed = number()?,
            "limit" => self.generator.limit = Some(number()?),
            "backlog" => self.backlog = evp_api::plan::parse_duration(value)?,
            _ => {
                return Err(format!(
                    "no option `{name}`; there are: rate, seed, limit, backlog"
                ));
            }
        }
        Ok(())
    }
}

/// Points sources at their generators and files. `Err` names a binding whose source the manifest does not have.
pub fn bind_sources(spec: &mut EventPipelineSpec, bindings: &[Binding]) -> Result<(), String> {
    for binding in bindings {
        let (Binding::Source { source, .. } | Binding::Files { source, .. }) = binding else {
            continue;
        };
        let known = || {
            spec.sources
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some(at) = spec.sources.iter().position(|s| &s.name == source) else {
            return Err(format!(
                "--bind {source}=…: the manifest has no source `{source}`; it has: {}",
                known()
            ));
        };
        point(&mut spec.sources[at], binding)?;
    }
    Ok(())
}

fn point(at: &mut Source, binding: &Binding) -> Result<(), String> {
    let Source {
        kafka,
        files,
        generator: slot,
        format,
        ..
    } = at;
    match binding {
        Binding::Source { generator, .. } => {
            (*kafka, *files) = (None, None);
            // Not that of the files or the topic: a generator has its own, and its rows no header.
            *format = generator.generator.template.format();
            *slot = Some(generator.generator.clone());
        }
        Binding::Files { dir, glob, .. } => {
            (*kafka, *slot) = (None, None);
            let path = std::path::absolute(dir)
                .map_err(|e| format!("{} is no folder: {e}", dir.display()))?;
            let mut bound: Files = match files.take() {
                Some(files) => files,
                None => Files::of(String::new()),
            };
            bound.path = format!(
                "file://{}",
                path.components().collect::<PathBuf>().display()
            );
            if let Some(glob) = glob {
                bound.glob.clone_from(glob);
            }
            *files = Some(bound);
        }
        Binding::Path { .. } => {}
    }
    Ok(())
}

/// Makes each PostgreSQL sink a Delta table below a folder: kept by key where an aggregate gives the keys, else every row is
/// appended. Gives the names of sinks whose `keys` are not looked at here.
pub fn keep_tables_here(spec: &mut EventPipelineSpec, dir: &Path) -> Vec<String> {
    let mut without_keys = Vec::new();
    let steps = spec.steps.clone();
    for sink in &mut spec.sinks {
        let Some(postgres) = sink.postgres.take() else {
            continue;
        };
        let Postgres {
            database,
            schema,
            table,
            ..
        } = postgres;
        let folder = dir.join("postgres").join(database).join(schema).join(table);
        sink.delta = Some(Delta {
            path: format!("file://{}", folder.display()),
            partition_by: Vec::new(),
        });
        let by_aggregate = sink.mode == Mode::Update && reads_aggregate(&steps, &sink.from);
        if !by_aggregate && !sink.keys.is_empty() {
            sink.mode = Mode::Append;
            sink.keys.clear();
            without_keys.push(sink.name.clone());
        }
    }
    without_keys
}

/// Bounded by the number of steps, so that a cycle ends.
fn reads_aggregate(steps: &[Step], from: &str) -> bool {
    let mut node = from;
    for _ in 0..=steps.len() {
        match steps.iter().find(|step| step.name == node) {
            None => return false,
            Some(step) if step.aggregate.is_some() => return true,
            Some(step) => node = &step.from,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_binding_takes_its_options() {
        let Ok(Binding::Source { source, generator }) =
            "orders=generator:orders?rate=200&backlog=30m".parse()
        else {
            panic!("must parse");
        };
        assert_eq!((source.as_str(), generator.generator.rate), ("orders", 200));
        assert_eq!(generator.backlog, Duration::from_mins(30));
    }

    #[test]
    fn a_generator_binding_reads_what_its_template_writes() {
        let files = serde_json::json!({"path": "s3://shop/raw"});
        let csv = serde_json::json!({"csv": {"delimiter": ";", "nullText": "NULL"}});
        let source: Source = serde_json::from_value(serde_json::json!({
            "name": "raw", "files": files, "format": csv, "schema": {"fields": []}
        }))
        .unwrap();
        let bound = |binding: &str| {
            let mut source = source.clone();
            point(&mut source, &binding.parse().unwrap()).unwrap();
            assert!(source.files.is_none());
            (source.generator.unwrap(), source.format)
        };
        let (shop, format) = bound("raw=generator:shop");
        let csv = format.csv.unwrap();
        assert_eq!((shop.template, shop.rate), (Template::Shop, 10));
        assert!(!csv.header && csv.delimiter == "," && csv.null_text.is_empty());
        let (activity, format) = bound("raw=generator:activity?rate=7");
        assert_eq!((activity.template, activity.rate), (Template::Activity, 7));
        assert!(format.csv.is_none());
    }

    #[test]
    fn a_files_binding_keeps_what_the_manifest_says_of_its_files() {
        let bound: Binding = "raw=files:/in/./day?glob=*.tsv".parse().unwrap();
        let mut source: Source = serde_json::from_value(serde_json::json!({
            "name": "raw", "files": {"path": "s3://shop/raw", "settle": "1s"}, "schema": {"fields": []}
        }))
        .unwrap();
        point(&mut source, &bound).unwrap();
        let files = source.files.unwrap();
        let shown = (
            files.path.as_str(),
            files.glob.as_str(),
            files.settle.as_str(),
        );
        assert_eq!(shown, ("file:///in/day", "*.tsv", "1s"));
        assert!("raw=files:".parse::<Binding>().is_err());
        assert!("raw=files:./in?rate=1".parse::<Binding>().is_err());
    }

    #[test]
    fn a_path_binding_keeps_the_folder() {
        let bound: Binding = "s3://lake/=./lake".parse().unwrap();
        assert_eq!(
            bound,
            Binding::Path {
                prefix: "s3://lake".into(),
                dir: "./lake".into()
            }
        );
    }

    #[test]
    fn a_postgres_sink_is_a_delta_table_here_by_key_only_where_an_aggregate_gives_the_keys() {
        let sink = |name: &str, from: &str, mode: &str, keys: &[&str]| {
            serde_json::json!({"name": name, "from": from, "mode": mode, "keys": keys, "postgres": {
                "host": "h", "database": "shop", "table": name, "username": "u",
                "password": {"secretKeyRef": {"name": "s", "key": "k"}}}})
        };
        let spec = serde_json::json!({
            "checkpoint": {"path": "s3://lake/c"},
            "sources": [{"name": "orders", "generator": {"template": "orders"}, "schema": {"fields": []}}],
            "steps": [{"name": "sums", "from": "orders", "aggregate": {
                "window": {"tumbling": {"size": "5m"}}, "measures": "count(*) AS n"}}],
            "sinks": [sink("all", "orders", "Append", &[]), sink("once", "orders", "Append", &["id"]),
                sink("sums-now", "sums", "Update", &[])]});
        let mut spec: EventPipelineSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(keep_tables_here(&mut spec, Path::new("/lake")), ["once"]);
        let tables = spec
            .sinks
            .iter()
            .map(|sink| (sink.mode, sink.delta.as_ref().unwrap().path.as_str()));
        assert_eq!(
            tables.collect::<Vec<_>>(),
            [
                (Mode::Append, "file:///lake/postgres/shop/public/all"),
                (Mode::Append, "file:///lake/postgres/shop/public/once"),
                (Mode::Update, "file:///lake/postgres/shop/public/sums-now"),
            ]
        );
        assert!(
            spec.sinks
                .iter()
                .all(|sink| sink.postgres.is_none() && sink.keys.is_empty())
        );
    }

    #[test]
    fn a_binding_that_says_nothing_is_refused_with_the_forms_it_may_have() {
        assert!(
            "orders"
                .parse::<Binding>()
                .unwrap_err()
                .contains("generator:TEMPLATE")
        );
        assert!(
            "orders=generator:shopping"
                .parse::<Binding>()
                .unwrap_err()
                .contains("there are: orders, shop, activity")
        );
    }
}
