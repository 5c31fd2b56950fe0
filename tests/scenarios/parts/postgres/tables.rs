//! Tables that are created, and tables that do not fit.

use evp_api::plan::Mode;
use evp_api::reason;
use evp_worker::sink::SinkError;

use super::rows::two;
use super::world::{Ask, World, named};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_table_is_created_with_its_indexes_under_names_that_stay() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &["id"]);
    ask.create = Some(vec![
        vec!["name".to_owned()],
        vec!["name".to_owned(), "id".to_owned()],
    ]);
    let mut names = Vec::new();
    for _ in 0..2 {
        world
            .run("DROP TABLE IF EXISTS t, eventpipeline_progress")
            .await;
        world.open(&ask).await.commit(&named(&[(1, "a")])).await;
        let indexes = "SELECT left(indexname, -9), indexdef LIKE '%UNIQUE%NULLS NOT DISTINCT%' FROM pg_indexes \
            WHERE schemaname = current_schema AND tablename = 't' ORDER BY 1";
        assert_eq!(
            world.psql(indexes),
            "t_id_key|t\nt_name_id_idx|f\nt_name_idx|f\n"
        );
        let whole = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema ORDER BY 1";
        names.push(world.psql(whole));
    }
    assert_eq!(names[0], names[1]);
    let nullable = "SELECT column_name, is_nullable FROM information_schema.columns \
        WHERE table_schema = current_schema AND table_name = 't' ORDER BY 1";
    assert_eq!(world.psql(nullable), "id|NO\nname|YES\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_index_that_is_asked_for_later_is_added() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    let mut sink = world.open(&ask).await;
    sink.commit(&named(&[(1, "a")])).await;
    ask.create = Some(vec![vec!["name".to_owned()]]);
    let prev = sink.prev;
    let mut sink = world.open(&ask).await;
    sink.prev = prev;
    sink.commit(&named(&[(2, "b")])).await;
    let indexes = "SELECT left(indexname::text, -9) FROM pg_indexes WHERE schemaname = current_schema AND tablename = 't'";
    assert_eq!(world.ask(indexes).await, ["t_name_idx"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_table_that_does_not_fit_is_refused_by_the_name_of_what_does_not() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Update, &["id"]);
    ask.create = None;
    for (columns, words) in [
        (
            "id bigint PRIMARY KEY, name integer",
            ["column name is integer", "make it text"],
        ),
        (
            "id bigint PRIMARY KEY",
            ["no column name", "ADD COLUMN \"name\" text"],
        ),
        (
            "id integer PRIMARY KEY, name text",
            ["column id is integer", "make it bigint"],
        ),
        (
            "id bigint, name text",
            ["no unique index on (\"id\")", "CREATE UNIQUE INDEX"],
        ),
        (
            "id bigint, name text, PRIMARY KEY (id, name)",
            ["no unique index on (\"id\")", "CREATE UNIQUE INDEX"],
        ),
        (
            "id bigint PRIMARY KEY DEFERRABLE, name text",
            ["no unique index", "CREATE UNIQUE INDEX"],
        ),
        (
            "id bigint PRIMARY KEY, name text, more text NOT NULL",
            ["column more is NOT NULL", "give it a default"],
        ),
        (
            "id bigint PRIMARY KEY, name text GENERATED ALWAYS AS ('x') STORED",
            ["column name is computed by the server", "make it text"],
        ),
    ] {
        world
            .run(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t ({columns})"
            ))
            .await;
        let error = world.refused(&ask).await;
        let SinkError::Stop { reason, message } = error else {
            panic!("{error}");
        };
        assert_eq!(reason, reason::TABLE_MISMATCH, "{message}");
        for word in words {
            assert!(message.contains(word), "`{word}` is not in {message}");
        }
        assert!(message.starts_with("postgres://"), "{message}");
    }
    let fits = "id bigint PRIMARY KEY, name character varying(20), more text NOT NULL DEFAULT '', at timestamptz DEFAULT now()";
    world
        .run(&format!("DROP TABLE t; CREATE TABLE t ({fits})"))
        .await;
    world.open(&ask).await.commit(&named(&[(1, "a")])).await;
    assert_eq!(world.psql("SELECT id, name, more FROM t"), "1|a|\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_view_is_no_table() {
    let world = World::new().await;
    world
        .run("CREATE VIEW t AS SELECT 1::bigint AS id, ''::text AS name")
        .await;
    let error = world
        .refused(&Ask::new(two(), Mode::Append, &[]))
        .await
        .to_string();
    assert!(error.contains("it is no table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn what_is_not_there_is_waited_for_by_name() {
    let world = World::new().await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    ask.create = None;
    let check = |error: SinkError, word: &str| {
        let SinkError::Unavailable { reason, message } = error else {
            panic!("{error}");
        };
        assert_eq!(reason, reason::TABLE_MISSING, "{message}");
        assert!(message.contains(word), "`{word}` is not in {message}");
    };
    check(world.refused(&ask).await, "no such table; create it");
    let mut settings = world.settings(&ask, &world.place);
    settings.plan.schema = "nowhere".to_owned();
    check(World::refusal(settings).await, "no schema nowhere");
    let mut settings = world.settings(&ask, &world.place);
    settings.plan.database = "nowhere".to_owned();
    check(World::refusal(settings).await, "create the database");
}
