//! `docs/reference/semantics.md`: the rules of streams, each with the tests that hold it. A test holds a rule if its name begins with
//! `rule_<number>_` or `rules_<number>_<number>_`, or if it is named in [`ALSO`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{expect_file, top};

/// Each rule in a sentence, by its number. `None`: what it is about is not built.
const RULES: [(u32, Option<&str>); 40] = [
    (
        1,
        Some(
            "Event time is UTC in microseconds; how a text or a number becomes one is declared, never guessed.",
        ),
    ),
    (
        2,
        Some(
            "A split's watermark is its newest accepted event time less the delay, and never goes back.",
        ),
    ),
    (
        3,
        Some(
            "A source's watermark is the lowest of its splits that are not idle, and never goes back.",
        ),
    ),
    (
        4,
        Some(
            "A split that is known and was not read yet holds the watermark; all files of a source are one split.",
        ),
    ),
    (
        5,
        Some(
            "Only steps with memory judge lateness. Equal to the watermark is not late; a window is closed when its end is passed.",
        ),
    ),
    (
        6,
        Some(
            "Lateness in an epoch is judged by the watermark that the epoch before it was decided with.",
        ),
    ),
    (
        7,
        Some(
            "A closed window's row counts one microsecond before its end for the aggregate below.",
        ),
    ),
    (
        8,
        Some(
            "A split is idle if it is at its end and nothing came for `idleTimeout`, counted while it could be polled.",
        ),
    ),
    (9, Some("If all splits are idle the watermark holds.")),
    (
        10,
        Some(
            "A split that is new or back from idleness enters at the watermark; what it has of before says why it is late.",
        ),
    ),
    (11, None),
    (
        12,
        Some("An event time further ahead of the epoch's time than `maxFuture` is a dead letter."),
    ),
    (
        13,
        Some("An event time that is null or cannot be read is a dead letter."),
    ),
    (
        14,
        Some("A run that ends reads to the end and closes no window before its time."),
    ),
    (
        15,
        Some("Watermarks go on where the head left them; who was idle is forgotten."),
    ),
    (
        16,
        Some("Windows are [start, end), also before 1970 and from any origin."),
    ),
    (
        17,
        Some("Sessions of a key merge and are given out once, when they close."),
    ),
    (
        18,
        Some("Append gives a window once, when it closes; Update gives each change of it."),
    ),
    (19, Some("count(DISTINCT x) is exact.")),
    (
        20,
        Some("Of rows with equal keys that are near enough in event time the first passes."),
    ),
    (21, None),
    (22, Some("The order of a split is kept to the sink.")),
    (23, None),
    (
        24,
        Some("A partition that is found later is read from its start."),
    ),
    (
        25,
        Some(
            "A topic made anew stops the pipeline; records that were deleted unread stop it or leave a gap that is told.",
        ),
    ),
    (
        26,
        Some("The end of a log is a position, not the offset of a last record."),
    ),
    (
        27,
        Some("Every record that is read moves the position, whatever becomes of it."),
    ),
    (
        28,
        Some(
            "What comes in equals what goes out, is filtered, late, a duplicate or a dead letter, in every epoch.",
        ),
    ),
    (29, Some("Only committed records of transactions are read.")),
    (
        30,
        Some("A file is read once, as what it was when it was listed, and resumed by row."),
    ),
    (31, None),
    (32, None),
    (33, None),
    (
        34,
        Some("Decoding is strict, and a bad record harms no neighbour."),
    ),
    (
        35,
        Some(
            "A dead letter has the record's bytes, place and reason, in the epoch of the good rows.",
        ),
    ),
    (
        36,
        Some("Every type of a schema keeps its values to the sink."),
    ),
    (
        37,
        Some("now() is the epoch's time; nothing in a step is random."),
    ),
    (
        38,
        Some("A row, a record or a window that cannot be computed is found, and the rest goes on."),
    ),
    (
        39,
        Some(
            "Every queue and all state are bounded in bytes; beyond it there is a named condition.",
        ),
    ),
    (
        40,
        Some("Each epoch leaves what it read, decided and applied, and who holds the watermark."),
    ),
];

/// Tests that hold a rule under another name.
const ALSO: &[(u32, &str)] = &[
    (13, "a_missing_or_null_required_field_names_itself"),
    (
        14,
        "the_activity_example_holds_each_event_once_and_its_sums_also_when_all_is_sent_again",
    ),
    (22, "all_records_are_read_once_in_order_up_to_the_end"),
    (22, "an_epoch_of_several_parts_arrives_whole_and_in_order"),
    (
        26,
        "only_committed_transactions_are_read_and_their_marks_move_the_position",
    ),
    (
        27,
        "each_record_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_unharmed",
    ),
    (
        19,
        "ten_thousand_histories_of_windows_are_what_a_naive_evaluation_says",
    ),
    (
        25,
        "a_topic_made_anew_stops_the_worker_and_every_later_one_and_changes_no_table",
    ),
    (
        25,
        "a_topic_made_anew_under_a_running_source_is_vouched_for_no_more",
    ),
    (
        25,
        "records_deleted_before_they_were_read_stop_the_worker_or_leave_a_gap_that_is_told",
    ),
    (
        29,
        "what_a_foreign_transaction_holds_back_waits_and_what_it_aborts_is_never_read",
    ),
    (35, "letters_are_read_back_as_they_were"),
    (39, "state_beyond_its_bound_is_not_taken_in"),
    (40, "progress_and_dead_letters_tell_the_counts_of_the_audit"),
];

/// Names of all test functions, with the file of each from the top of the checkout.
fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in ["crds", "operator", "worker", "tests"] {
        collect(&top(part), part, &mut found);
    }
    found
}

fn collect(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &name, found);
        } else if Path::new(&name).extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let functions = text.lines().filter_map(|line| {
                let line = line.trim_start();
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ")?.split(['(', '<']).next()
            });
            for function in functions {
                found.insert(function.to_owned(), name.clone());
            }
        }
    }
}

/// Does a test's name begin with this number, as in `rule_6_lateness_is_judged` or `rules_5_6_windows_are`?
fn holds(test: &str, rule: u32) -> bool {
    let numbers = test
        .strip_prefix("rule_")
        .or_else(|| test.strip_prefix("rules_"));
    let words = numbers.into_iter().flat_map(|rest| rest.split('_'));
    let mut numbers = words.map_while(|word| word.parse::<u32>().ok());
    numbers.any(|number| number == rule)
}

fn document() -> String {
    let tests = tests();
    let mut text = "# Semantics\n\nWhat each rule means, and the tests that hold it. Written from the tests' names: \
                    `tests/scenarios/generated/semantics.rs`.\n\n| rule | | held by |\n|--:|---|---|\n"
        .to_owned();
    for (number, rule) in RULES {
        let also = ALSO.iter().filter(|(of, _)| *of == number);
        let also = also.map(|(_, test)| {
            assert!(tests.contains_key(*test), "there is no test {test}");
            (*test).to_owned()
        });
        let named = tests.keys().filter(|test| holds(test, number));
        let held = named.cloned().chain(also).map(|test| {
            let file = &tests[&test];
            format!("[`{test}`](../../{file})")
        });
        let held = held.collect::<Vec<_>>().join(", ");
        let Some(rule) = rule else {
            assert!(held.is_empty(), "rule {number} has tests and is not built");
            let _ = writeln!(text, "| {number} | *not built* | |");
            continue;
        };
        let held = if held.is_empty() {
            "*no test of its own*"
        } else {
            &held
        };
        let _ = writeln!(text, "| {number} | {rule} | {held} |");
    }
    text
}

#[test]
fn the_reference_of_semantics_names_the_tests_that_hold_each_rule() {
    expect_file("docs/reference/semantics.md", &document());
}
