//! Known mistakes, and who finds each: a test that is there without it, in at most a thousand seeds.
//!
//! The table in `docs/reliability.md` is written from this walk: `UPDATE_EXPECT=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::damage::{Damage, is_named};
use super::matrix::for_all;
use super::mix::world_of;
use super::run::run;
use crate::mistake::{Mistake, while_made};
use crate::sink::delta::tests::upsert;

/// Seeds after which a mistake counts as not found.
const MOST_SEEDS: u64 = 1000;

/// A test, as a thing that can be tried with a seed: `Err` or a panic is a find.
struct Finder {
    /// Seeds that it has at most.
    most: u64,
    /// Where it is, below `worker/src`.
    at: &'static str,
    name: &'static str,
    finds: fn(u64) -> Result<(), String>,
}

const MIX: Finder = Finder {
    most: MOST_SEEDS,
    at: "simulation/mix.rs",
    name: "whatever_comes_together_every_version_is_right",
    finds: |seed| {
        let wrong = run(&world_of(seed)).wrong;
        wrong.into_iter().next().map_or(Ok(()), Err)
    },
};

const DAMAGE: Finder = Finder {
    most: MOST_SEEDS,
    at: "simulation/damage.rs",
    name: "each_damage_is_named_and_nothing_is_decided_on_it",
    finds: |seed| {
        let all = Damage::all(seed);
        let only_flips = if seed == 1 { all.len() } else { 1 };
        all.into_iter().take(only_flips).try_for_each(is_named)
    },
};

const EMPTY_MERGE: Finder = Finder {
    most: 1,
    at: "sink/delta/tests/upsert.rs",
    name: "unchanged_rows_cause_no_rewrite_and_still_a_commit",
    finds: |_| {
        upsert::unchanged_rows_cause_no_rewrite_and_still_a_commit();
        Ok(())
    },
};

const OPTIMIZE: Finder = Finder {
    most: 1,
    at: "sink/delta/tests/upsert.rs",
    name: "an_optimize_before_our_commit_does_not_double",
    finds: |_| {
        upsert::an_optimize_before_our_commit_does_not_double();
        Ok(())
    },
};

/// Who finds it.
fn finder(mistake: Mistake) -> Finder {
    match mistake {
        Mistake::SeenEpochIgnored
        | Mistake::SinksNotAsked
        | Mistake::NoMarkerTakenAsNothing
        | Mistake::StateChecksumIgnored => DAMAGE,
        Mistake::EmptyMergeDropsTxn => EMPTY_MERGE,
        Mistake::StaleFilesMerged => OPTIMIZE,
        _ => MIX,
    }
}

/// The first seed that finds it, and by what.
fn seeds(mistake: Mistake) -> Option<(u64, String)> {
    let finder = finder(mistake);
    (1..=finder.most).find_map(|seed| {
        let tried = || while_made(mistake, || (finder.finds)(seed));
        match catch_unwind(AssertUnwindSafe(tried)) {
            Ok(Ok(())) => None,
            Ok(Err(found)) => Some((seed, found)),
            Err(_) => Some((seed, "an assertion fails".to_owned())),
        }
    })
}

#[test]
#[ignore = "a minute; ./tests/run laws has it"]
fn each_known_mistake_is_found() {
    let found = Mutex::new(BTreeMap::new());
    let all: Vec<_> = Mistake::ALL.iter().copied().enumerate().collect();
    for_all(&all, |(at, mistake)| {
        let seeds = seeds(*mistake);
        println!("{mistake:?}: {seeds:?}");
        found.lock().unwrap().insert(*at, seeds);
    });
    let found = found.into_inner().unwrap();
    let missed: Vec<_> = found.iter().filter(|(_, seeds)| seeds.is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    table_is(&rows(&found));
}

fn rows(found: &BTreeMap<usize, Option<(u64, String)>>) -> String {
    let mut table = "| mistake | found by | seeds |\n|---|---|--:|\n".to_owned();
    for (at, seeds) in found {
        let mistake = Mistake::ALL[*at];
        let Finder { at, name, .. } = finder(mistake);
        let seeds = seeds.as_ref().map_or(0, |(seed, _)| *seed);
        let words = mistake.words();
        let _ = writeln!(
            table,
            "| {words} | [{name}](../worker/src/{at}) | {seeds} |"
        );
    }
    table
}

/// The table in the documentation is this one.
fn table_is(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
    let (begin, end) = ("<!-- mistakes -->\n", "<!-- /mistakes -->");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    }
    // How many seeds it takes changes with every request that the worker makes more or less.
    let names = |table: &str| -> Vec<String> {
        let cut = |row: &str| row.rsplitn(3, '|').last().map(str::to_owned);
        table.lines().filter_map(cut).collect()
    };
    assert_eq!(names(there), names(table), "UPDATE_EXPECT=1 rewrites it");
}
