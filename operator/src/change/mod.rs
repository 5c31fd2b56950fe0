//! What a change of spec means: every field has a class, and the table is code.
//!
//! Pure. Compares the spec the pods run with the new one, field by field; items of named lists are compared by name. The
//! worker is the last judge of what fits its checkpoint: this table only spares a roll that would end in a stop.

mod meaning;

pub(crate) use meaning::spelled;

use evp_api::pipeline::EventPipelineSpec;
use serde_json::Value;

/// What happens when a field changes. Ordered: the worst change of a spec decides.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Status only, or a scale; no pod is replaced.
    Hot,
    /// Pods are replaced, state is kept as it is.
    Rolling,
    /// Pods are replaced, state is kept and fitted on restore.
    StateKept,
    /// State would be destroyed or made wrong: held, old pods keep running, until a raised `resetNonce` consents.
    Incompatible,
    /// Positions would speak of another log, which a reset keeps: held whatever the nonce.
    Never,
}

/// One field that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Such as `spec.steps[revenue].aggregate.window.tumbling.size`.
    pub path: String,
    /// Its class.
    pub class: Class,
    /// As the pods run it; `None`: absent.
    pub old: Option<String>,
    /// As wanted; `None`: absent.
    pub new: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        write!(
            f,
            "{}: {} -> {}",
            self.path,
            text(&self.old),
            text(&self.new)
        )
    }
}

/// Path pattern → class; the first that fits counts. `[*]`: an item of a list, whichever; `[+]`, `[-]`: an item that was
/// added or removed; `**`: the rest, at least one segment. A field that fits none is Incompatible: nobody has thought of it.
pub const TABLE: &[(&str, Class)] = &[
    ("suspend", Class::Hot),
    ("resetNonce", Class::Rolling),
    ("skip", Class::Rolling),
    ("objectives.**", Class::Hot),
    ("workers.**", Class::Rolling),
    // The path is the identity of the state.
    ("checkpoint.path", Class::Never),
    ("checkpoint.**", Class::Rolling),
    ("objectStore", Class::Rolling),
    ("objectStore.**", Class::Rolling),
    ("deadLetter", Class::Rolling),
    ("deadLetter.**", Class::Rolling),
    // A new source begins at its `startFrom`. A removed one would lose its positions, and read all again when it comes back.
    ("sources[+]", Class::StateKept),
    ("sources[-]", Class::Incompatible),
    ("sources[*].kafka", Class::Never),
    ("sources[*].kafka.topic", Class::Never),
    // Where the first start begins is settled by epoch 0; the rest is how the same log is reached.
    ("sources[*].kafka.**", Class::Rolling),
    // Another folder's files are other files: what was read is kept under the source's name.
    ("sources[*].files", Class::Never),
    ("sources[*].files.path", Class::Never),
    ("sources[*].files.**", Class::Rolling),
    ("sources[*].generator", Class::Never),
    ("sources[*].generator.rate", Class::Rolling),
    ("sources[*].generator.limit", Class::Rolling),
    // Event i is a function of template and seed: other ones are another log.
    ("sources[*].generator.**", Class::Never),
    ("sources[*].format", Class::Rolling),
    ("sources[*].format.**", Class::Rolling),
    ("sources[*].schema.fields[+]", Class::StateKept),
    ("sources[*].schema.fields[-]", Class::StateKept),
    ("sources[*].schema.fields[*].optional", Class::StateKept),
    // Type, zone and unit say what a value means; where that meaning is in an aggregate's state, they must stay.
    ("sources[*].schema.fields[*].**", Class::Incompatible),
    ("sources[*].schema.**", Class::Rolling),
    ("sources[*].watermark", Class::StateKept),
    ("sources[*].watermark.column", Class::Incompatible),
    // A window that closed under a shorter one would open again, and be given out a second time.
    ("sources[*].watermark.allowedLateness", Class::Incompatible),
    // A watermark never goes back, so a longer delay only slows it down and a shorter one lets it jump.
    ("sources[*].watermark.**", Class::Rolling),
    ("steps[+]", Class::StateKept),
    ("steps[-]", Class::StateKept),
    ("steps[*].from", Class::Incompatible),
    ("steps[*].query", Class::Incompatible),
    ("steps[*].query.**", Class::Rolling),
    ("steps[*].validate", Class::Incompatible),
    ("steps[*].validate.**", Class::Rolling),
    ("steps[*].dedupe", Class::Incompatible),
    ("steps[*].dedupe.keys", Class::Incompatible),
    // Under a longer one keys would be asked for that are forgotten.
    ("steps[*].dedupe.within", Class::Incompatible),
    ("steps[*].dedupe.late", Class::Rolling),
    ("steps[*].aggregate", Class::Incompatible),
    ("steps[*].aggregate.window.**", Class::Incompatible),
    ("steps[*].aggregate.groupBy", Class::Incompatible),
    ("steps[*].aggregate.measures", Class::Incompatible),
    ("steps[*].aggregate.late", Class::Rolling),
    // A sink is its name and its target: re-pointed, it is a new one that starts now.
    ("sinks[+]", Class::StateKept),
    ("sinks[-]", Class::StateKept),
    ("sinks[*].delta", Class::StateKept),
    ("sinks[*].parquet", Class::StateKept),
    ("sinks[*].parquet.path", Class::StateKept),
    ("sinks[*].delta.path", Class::StateKept),
    // How the same cluster is reached is no new target. Another cluster has no marker of ours: the worker stops there.
    ("sinks[*].kafka", Class::StateKept),
    ("sinks[*].kafka.topic", Class::StateKept),
    ("sinks[*].kafka.progressTopic", Class::StateKept),
    ("sinks[*].postgres", Class::StateKept),
    ("sinks[*].postgres.host", Class::StateKept),
    ("sinks[*].postgres.port", Class::StateKept),
    ("sinks[*].postgres.database", Class::StateKept),
    ("sinks[*].postgres.schema", Class::StateKept),
    ("sinks[*].postgres.table", Class::StateKept),
    ("sinks[*].stdout", Class::StateKept),
    ("sinks[*].**", Class::Rolling),
];

/// Every field in which two specs differ, in the order of the manifest.
pub fn between(old: &EventPipelineSpec, new: &EventPipelineSpec) -> Vec<Change> {
    let json = |spec| serde_json::to_value(spec).unwrap_or_default();
    let mut found = Vec::new();
    walk("", Some(&json(old)), Some(&json(new)), &mut found);
    let specs = meaning::Specs { old, new };
    found
        .into_iter()
        .map(|found| found.judged(&specs))
        .collect()
}

/// The worst class among changes; `None`: there are none.
pub fn worst(changes: &[Change]) -> Option<Class> {
    changes.iter().map(|change| change.class).max()
}

/// The changes that hold a spec back; none: it may be rolled out.
pub fn held(changes: Vec<Change>, consents: bool) -> Vec<Change> {
    let least = if consents {
        Class::Never
    } else {
        Class::Incompatible
    };
    changes
        .into_iter()
        .filter(|change| change.class >= least)
        .collect()
}

/// The class the table gives to a path, without regard to what else the specs say.
pub fn class_of(path: &str) -> Class {
    let path = segments(path);
    let row = TABLE
        .iter()
        .find(|(pattern, _)| fits(&segments(pattern), &path));
    row.map_or(Class::Incompatible, |(_, class)| *class)
}

struct Found {
    path: String,
    /// The path with `[+]` or `[-]` in place of the name of an item that is on one side only.
    pattern: String,
    old: Option<Value>,
    new: Option<Value>,
}

impl Found {
    fn judged(self, specs: &meaning::Specs<'_>) -> Change {
        let table = class_of(&self.pattern);
        let class = if table == Class::Incompatible {
            meaning::refine(specs, &self.path, self.old.as_ref(), self.new.as_ref())
        } else {
            table
        };
        let text = |value: Option<Value>| value.map(|value| short(&value));
        Change {
            path: format!("spec.{}", self.path),
            class,
            old: text(self.old),
            new: text(self.new),
        }
    }
}

/// A value as a person reads it, not longer than a line.
fn short(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}

fn walk(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Found>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut keys: Vec<&String> = new.keys().collect();
            keys.extend(old.keys().filter(|key| !new.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(&path, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if old.iter().chain(new).all(|item| name_of(item).is_some()) =>
        {
            walk_named(path, old, new, found);
        }
        (old, new) => found.push(Found {
            path: path.to_owned(),
            pattern: path.to_owned(),
            old: old.cloned(),
            new: new.cloned(),
        }),
    }
}

fn walk_named(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Found>) {
    let of_name = |items: &[Value], name: &str| {
        items
            .iter()
            .find(|item| name_of(item) == Some(name))
            .cloned()
    };
    let mut one_sided = |name: &str, mark: &str, old: Option<Value>, new: Option<Value>| {
        found.push(Found {
            path: format!("{path}[{name}]"),
            pattern: format!("{path}[{mark}]"),
            old,
            new,
        });
    };
    let mut both = Vec::new();
    for (item, name) in new.iter().filter_map(|item| Some((item, name_of(item)?))) {
        match of_name(old, name) {
            Some(before) => both.push((name, before, item)),
            None => one_sided(name, "+", None, Some(item.clone())),
        }
    }
    for (item, name) in old.iter().filter_map(|item| Some((item, name_of(item)?))) {
        if of_name(new, name).is_none() {
            one_sided(name, "-", Some(item.clone()), None);
        }
    }
    for (name, before, after) in both {
        walk(
            &format!("{path}[{name}]"),
            Some(&before),
            Some(after),
            found,
        );
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

/// `a[b].c` → `a`, `[b]`, `c`. Names in brackets may hold dots.
fn segments(path: &str) -> Vec<&str> {
    let mut rest = path;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('[') {
            Some(inner) => inner.find(']').map_or(rest.len(), |at| at + 2),
            None => rest.find(['.', '[']).unwrap_or(rest.len()),
        };
        parts.push(&rest[..end]);
        rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
    }
    parts
}

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) | (Some((&"**", [])), Some(_)) => true,
        (Some((&"[*]", pattern)), Some((item, path))) => {
            item.starts_with('[') && !matches!(*item, "[+]" | "[-]") && fits(pattern, path)
        }
        (Some((wanted, pattern)), Some((segment, path))) => {
            wanted == segment && fits(pattern, path)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
