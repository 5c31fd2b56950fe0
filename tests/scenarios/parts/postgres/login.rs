//! Who the server is, and who we are to it.

use evp_api::plan::Mode;
use evp_api::reason;
use evp_worker::sink::SinkError;

use super::rows::two;
use super::wire::{Cut, Wire};
use super::world::{Ask, Place, World, named};

fn ask() -> Ask {
    Ask::new(two(), Mode::Append, &[])
}

#[track_caller]
fn denied(error: SinkError, words: &[&str]) {
    let SinkError::Unavailable { reason, message } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, reason::SINK_DENIED, "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in {message}");
    }
    assert!(!message.contains("s3cret"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_encrypted_connection_is_verified_against_the_authority_and_the_host() {
    let tls = Place {
        tls: true,
        ..Place::bed()
    };
    let world = World::new().await;
    let mut settings = world.settings(&ask(), &tls);
    let mut sink = super::world::Writes::open(settings.clone()).await.unwrap();
    sink.commit(&named(&[(1, "a")])).await;
    let encrypted = "SELECT DISTINCT s.ssl::text FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) \
        WHERE application_name = 'eventpipeline' AND query LIKE '%COMMIT%' AND ssl";
    assert_eq!(world.ask(encrypted).await, ["true"]);
    // The same server under a name that its certificate is not for.
    let wire = Wire::at("127.0.0.2", Cut::Never).await;
    let elsewhere = Place {
        tls: true,
        ..wire.place()
    };
    let error = World::refusal(world.settings(&ask(), &elsewhere)).await;
    denied(
        error,
        &["certificate is not trusted for 127.0.0.2", "`host`"],
    );
    settings.plan.tls.as_mut().unwrap().ca = None;
    denied(
        World::refusal(settings).await,
        &["UnknownIssuer", "`tls.ca`"],
    );
    world.put_secret("ca.crt", "no certificate");
    let error = World::refusal(world.settings(&ask(), &tls)).await;
    denied(error, &["`tls.ca` holds no PEM certificates"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn credentials_that_are_refused_are_read_again() {
    let world = World::new().await;
    world.put_secret("password", "wrong-but-s3cret");
    let settings = world.settings(&ask(), &world.place);
    denied(
        World::refusal(settings.clone()).await,
        &["password authentication failed", "the password's Secret"],
    );
    world.put_secret("password", &evp_tests::bed("EVP_BED_POSTGRES_PASSWORD"));
    let mut sink = super::world::Writes::open(settings).await.unwrap();
    sink.commit(&named(&[(1, "a")])).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_role_that_lacks_a_right_is_told_which() {
    let world = World::new().await;
    let role = format!("r{}", world.schema);
    world
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT USAGE ON SCHEMA {} TO {role}; CREATE TABLE t (id bigint, name text)",
            world.schema
        ))
        .await;
    world.put_secret("password", "s3cret");
    let mut settings = world.settings(&ask(), &world.place);
    settings.plan.username = role;
    let mut sink = super::world::Writes::open(settings).await.unwrap();
    let intent = sink.decide(&named(&[(1, "a")])).await;
    let error = sink.sink.roll_forward(&intent).await.unwrap_err();
    denied(
        error,
        &["permission denied for schema", "CREATE on its schema"],
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_server_out_of_reach_is_waited_for() {
    let world = World::new().await;
    let mut settings = world.settings(&ask(), &world.place);
    settings.plan.port = 1;
    let error = World::refusal(settings).await;
    let SinkError::Unavailable { reason, message } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, reason::SINK_UNAVAILABLE);
    assert!(message.contains("refused"), "{message}");
}
