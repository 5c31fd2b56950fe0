//! The predicates: what must hold of everything that one world decided and wrote.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::evaluate::{Expected, evaluate};
use super::tables::{Version, letters, parquet, versions};
use super::universe::{Decision, Universe};

/// All that is wrong with a world that came to its end; nothing: it is right.
pub(super) async fn judge(universe: &Universe, (seed, events): (u64, u64)) -> Vec<String> {
    let mut wrong = universe.found_wrong();
    let heads = universe.heads();
    never_back(&heads, &mut wrong);
    let decided = bodies(&heads, &mut wrong);
    if decided.is_empty() {
        wrong.push("nothing was decided".to_owned());
        return wrong;
    }
    let expected = evaluate(seed, &decided);
    if let Some(last) = heads.last() {
        finished(last, events, &mut wrong);
        state_is_there(universe, last, &mut wrong).await;
        kept(universe, &decided, &mut wrong).await;
    }
    for (body, expected) in decided.iter().skip(1).zip(&expected) {
        balanced(body, expected, &mut wrong);
    }
    for problem in [
        bronze(universe, &decided, &expected).await,
        placed(universe, &decided, &expected).await,
        gold(universe, &expected).await,
        once(universe, &expected).await,
        dead_letters(universe, &expected).await,
    ] {
        wrong.extend(problem.err());
    }
    wrong
}

/// One body of each epoch, from 0 on: decided once, by one process, in order.
fn bodies(heads: &[Decision], wrong: &mut Vec<String>) -> Vec<Decision> {
    let mut decided: Vec<Decision> = Vec::new();
    for head in heads {
        let next = decided.len() as u64;
        match decided.get(usize::try_from(head.epoch()).unwrap_or(usize::MAX)) {
            None if head.epoch() == next => decided.push(head.clone()),
            None => wrong.push(format!("epoch {} comes after {next}", head.epoch())),
            Some(first) if first.head["body"] == head.head["body"] => {}
            Some(first) => wrong.push(format!(
                "epoch {} was decided by {} and otherwise by {}",
                head.epoch(),
                first.by,
                head.by
            )),
        }
    }
    decided
}

/// Epochs, terms, positions and watermarks never go back; within a term there is one owner.
fn never_back(heads: &[Decision], wrong: &mut Vec<String>) {
    let mut superseded = BTreeSet::new();
    for pair in heads.windows(2) {
        let (old, new) = (&pair[0], &pair[1]);
        let at = format!("after epoch {} of {}, {}", old.epoch(), old.by, new.by);
        if new.epoch() < old.epoch() {
            wrong.push(format!("{at} goes back to epoch {}", new.epoch()));
        }
        let term = |d: &Decision| d.head["owner"]["term"].as_u64();
        let pod = |d: &Decision| d.head["owner"]["pod"].to_string();
        if pod(new) != pod(old) {
            superseded.insert(pod(old));
        }
        if superseded.contains(&pod(new)) {
            wrong.push(format!("{at} comes back after it was superseded"));
        }
        if term(new) < term(old) {
            wrong.push(format!("{at} goes back to term {:?}", term(new)));
        }
        if term(new) == term(old) && pod(new) != pod(old) {
            wrong.push(format!("{at} shares term {:?}", term(new)));
        }
        let ahead = new
            .positions()
            .iter()
            .zip(old.positions())
            .all(|(n, o)| *n >= o);
        if !ahead {
            wrong.push(format!("{at} goes back to positions {:?}", new.positions()));
        }
        let watermark = |d: &Decision| d.head["body"]["watermarks"]["orders"]["watermark"].as_i64();
        if watermark(new) < watermark(old) {
            wrong.push(format!("{at} takes the watermark back"));
        }
    }
}

fn finished(last: &Decision, events: u64, wrong: &mut Vec<String>) {
    let ends = [0, 1, 2].map(|split| (events + 2 - split) / 3);
    if last.positions() != ends {
        wrong.push(format!(
            "it ends at {:?} and not at {ends:?}",
            last.positions()
        ));
    }
    if last.undone() > 0 {
        wrong.push(format!("{} epochs are left undone", last.undone()));
    }
}

/// Every state file that the head names is there, whole.
async fn state_is_there(universe: &Universe, last: &Decision, wrong: &mut Vec<String>) {
    let mut named = Vec::new();
    files_of(&last.head["body"]["state"], &mut named);
    for (name, length) in named {
        let found = universe.get(&format!("checkpoint/0/state/{name}")).await;
        if found.map(|bytes| bytes.len() as u64) != Some(length) {
            wrong.push(format!("state file {name} is not there"));
        }
    }
}

/// Beside each decided body lies the plan it was decided under, and of all but the newest a copy.
async fn kept(universe: &Universe, decided: &[Decision], wrong: &mut Vec<String>) {
    for (epoch, decision) in decided.iter().enumerate() {
        let body = &decision.head["body"];
        let plan = body["plan"].as_str().unwrap_or_default();
        if universe
            .get(&format!("checkpoint/plans/{plan}.json"))
            .await
            .is_none()
        {
            wrong.push(format!("the plan of epoch {epoch} is not kept"));
        }
        let copy = universe
            .get(&format!("checkpoint/0/epochs/{epoch:020}.json"))
            .await;
        let copy = copy.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if epoch + 1 < decided.len() && copy.as_ref() != Some(body) {
            wrong.push(format!("of epoch {epoch} there is no copy"));
        }
    }
}

/// Whatever has a name and a length, however deep.
fn files_of(state: &Value, files: &mut Vec<(String, u64)>) {
    if let (Some(name), Some(length)) = (state["name"].as_str(), state["length"].as_u64()) {
        files.push((name.to_owned(), length));
    }
    let members = state.as_object().into_iter().flat_map(|o| o.values());
    let elements = state.as_array().into_iter().flatten();
    members
        .chain(elements)
        .for_each(|inner| files_of(inner, files));
}

fn balanced(body: &Decision, expected: &Expected, wrong: &mut Vec<String>) {
    let (epoch, body) = (body.epoch(), &body.head["body"]);
    let source = &body["ledger"]["sources"]["orders"];
    let count = |name: &str| source[name].as_u64().unwrap_or_default();
    let (read, bad) = (count("read"), count("deadLettered"));
    if read != expected.read || read != count("decoded") + bad {
        wrong.push(format!(
            "epoch {epoch} read {} and says {source}",
            expected.read
        ));
    }
    let sales = &body["ledger"]["steps"]["sales"];
    let late = expected
        .letters
        .iter()
        .filter(|l| l.starts_with("sales"))
        .count();
    if sales["late"].as_u64().unwrap_or_default() != late as u64 {
        wrong.push(format!(
            "epoch {epoch} has {late} late rows and says {sales}"
        ));
    }
    let unique = &body["ledger"]["steps"]["unique"];
    if unique["duplicates"].as_u64().unwrap_or_default() != expected.duplicates {
        let duplicates = expected.duplicates;
        wrong.push(format!(
            "epoch {epoch} has {duplicates} duplicates and says {unique}"
        ));
    }
    let watermark = &body["watermarks"]["orders"]["watermark"];
    if watermark.as_i64() != expected.watermark {
        wrong.push(format!(
            "epoch {epoch} has watermark {watermark} and not {:?}",
            expected.watermark
        ));
    }
}

/// By epoch, and only by increasing ones.
fn by_epoch(table: &str, versions: Vec<Version>) -> Result<BTreeMap<u64, Version>, String> {
    let mut by_epoch = BTreeMap::new();
    let mut last = BTreeMap::new();
    for version in versions {
        let Some(epoch) = version.epoch else {
            return Err(format!("{table} has a version without a marker"));
        };
        if let Some(last) = last.insert(version.app.clone(), epoch)
            && last >= epoch
        {
            return Err(format!("{table} has epoch {epoch} after epoch {last}"));
        }
        if by_epoch.insert(epoch, version).is_some() {
            return Err(format!("{table} has epoch {epoch} twice"));
        }
    }
    Ok(by_epoch)
}

fn same(what: &str, found: &[String], expected: &[String]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).collect();
    let extra: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
    Err(format!(
        "{what}: {} rows instead of {}, missing {missing:?}, too many {extra:?}",
        found.len(),
        expected.len()
    ))
}

/// Every version of a table that rows are added to has the rows of its epoch, and each epoch with rows has its version.
fn appended(
    table: &str,
    found: Vec<Version>,
    expected: &BTreeMap<u64, &Vec<String>>,
) -> Result<(), String> {
    let found = by_epoch(table, found)?;
    let epochs: BTreeSet<_> = found.keys().chain(expected.keys()).copied().collect();
    for epoch in epochs {
        let rows = found.get(&epoch).map_or(&[][..], |v| &v.added);
        let of_epoch = expected.get(&epoch).map_or(&[][..], |rows| rows);
        same(&format!("{table} of epoch {epoch}"), rows, of_epoch)?;
        if found.get(&epoch).is_some_and(|v| v.removes > 0) {
            return Err(format!("{table} loses files in epoch {epoch}"));
        }
    }
    Ok(())
}

async fn bronze(universe: &Universe, _: &[Decision], expected: &[Expected]) -> Result<(), String> {
    let columns = ["part", "pos", "order_id", "quantity", "event_timestamp"];
    let found = versions(universe, "bronze", &columns).await?;
    let rows = (1..).zip(expected.iter().map(|e| &e.bronze)).collect();
    appended("bronze", found, &rows)
}

/// The table that only some plans have: rows of the epochs that were decided under such a plan.
async fn placed(
    universe: &Universe,
    decided: &[Decision],
    expected: &[Expected],
) -> Result<(), String> {
    let columns = ["order_id", "quantity", "event_timestamp"];
    let found = versions(universe, "placed-orders", &columns).await?;
    let has_it = |d: &Decision| d.head["body"]["sinks"].get("placed-orders").is_some();
    let epochs = decided.iter().skip(1).zip(expected);
    let rows = epochs
        .filter(|(decision, _)| has_it(decision))
        .map(|(decision, e)| (decision.epoch(), &e.placed))
        .collect();
    appended("placed-orders", found, &rows)
}

/// Every version of gold is the evaluation as of its epoch; what was closed stays as it was.
async fn gold(universe: &Universe, expected: &[Expected]) -> Result<(), String> {
    let columns = ["window_start", "region", "orders", "units", "products"];
    let found = by_epoch("gold", versions(universe, "gold", &columns).await?)?;
    let mut closed: BTreeSet<String> = BTreeSet::new();
    for (epoch, expected) in (1..).zip(expected) {
        let Some(version) = found.get(&epoch) else {
            if expected.gold_changed {
                return Err(format!("gold has no version of epoch {epoch}"));
            }
            continue;
        };
        same(
            &format!("gold of epoch {epoch}"),
            &version.rows,
            &expected.gold,
        )?;
        let there: BTreeSet<_> = version.rows.iter().cloned().collect();
        if let Some(changed) = closed.difference(&there).next() {
            return Err(format!("epoch {epoch} changes the closed window {changed}"));
        }
        closed.clone_from(&expected.closed);
    }
    match found.keys().find(|e| **e > expected.len() as u64) {
        Some(epoch) => Err(format!("gold has epoch {epoch}, which was not decided")),
        None => Ok(()),
    }
}

async fn dead_letters(universe: &Universe, expected: &[Expected]) -> Result<(), String> {
    let expected = expected.iter().map(|e| &e.letters);
    published("dead letters", &letters(universe).await?, expected)
}

/// Each event is in the files once, of the epoch in which it came first.
async fn once(universe: &Universe, expected: &[Expected]) -> Result<(), String> {
    let found = parquet(
        universe,
        "once",
        &["order_id", "quantity", "event_timestamp"],
    )
    .await?;
    published("once", &found, expected.iter().map(|e| &e.once))
}

/// The files of each epoch from 1 on hold this, and there are no others.
fn published<'a>(
    what: &str,
    found: &BTreeMap<u64, Vec<String>>,
    expected: impl ExactSizeIterator<Item = &'a Vec<String>>,
) -> Result<(), String> {
    let (none, epochs) = (Vec::new(), expected.len() as u64);
    for (epoch, expected) in (1..).zip(expected) {
        let found = found.get(&epoch).unwrap_or(&none);
        same(&format!("{what} of epoch {epoch}"), found, expected)?;
    }
    match found.keys().find(|e| **e == 0 || **e > epochs) {
        Some(epoch) => Err(format!("there are {what} of epoch {epoch}")),
        None => Ok(()),
    }
}

/// For messages: a body in short.
pub(super) fn in_short(head: &Decision) -> String {
    let owner: &Value = &head.head["owner"];
    format!(
        "epoch {} by {} (term {}), positions {:?}, {} undone",
        head.epoch(),
        head.by,
        owner["term"],
        head.positions(),
        head.undone()
    )
}
