//! Bindings of a local run: which source reads a generator, which object-store path is a folder here.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_api::source::{Generator, Source, Template};

/// One `--bind`.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// `SOURCE=generator:TEMPLATE[?rate=N&seed=N&limit=N&backlog=D]`.
    Source {
        /// Source of the manifest.
        source: String,
        /// What it reads instead.
        generator: GeneratorBinding,
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
            .ok_or("must be SOURCE=generator:TEMPLATE or s3://BUCKET=DIR")?;
        if from.starts_with("s3://") {
            return Ok(Self::Path {
                prefix: from.trim_end_matches('/').to_owned(),
                dir: to.into(),
            });
        }
        let generator = to
            .strip_prefix("generator:")
            .ok_or("a source is bound to generator:TEMPLATE")?;
        Ok(Self::Source {
            source: from.to_owned(),
            generator: generator.parse()?,
        })
    }
}

impl FromStr for GeneratorBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (template, options) = text.split_once('?').unwrap_or((text, ""));
        let template = match template {
            "orders" => Template::Orders,
            other => return Err(format!("no generator template `{other}`; there is: orders")),
        };
        let mut bound = Self {
            generator: Generator {
                template,
                rate: 5,
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

/// Points sources at their generators. `Err` names a binding whose source the manifest does not have.
pub fn bind_sources(spec: &mut EventPipelineSpec, bindings: &[Binding]) -> Result<(), String> {
    for binding in bindings {
        let Binding::Source { source, generator } = binding else {
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
        let Source {
            kafka,
            generator: slot,
            ..
        } = &mut spec.sources[at];
        *kafka = None;
        *slot = Some(generator.generator.clone());
    }
    Ok(())
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
                .contains("there is: orders")
        );
    }
}
