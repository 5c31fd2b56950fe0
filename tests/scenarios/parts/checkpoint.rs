//! The checkpoint against a real S3 server: its conditional writes, its certificates, its refusals.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use evp_api::plan::{S3Plan, SecretKeyRef, StoragePath};
use evp_api::reason;
use evp_core::position::{Epoch, Micros};
use evp_core::protocol::decide::Identity;
use evp_core::protocol::paths::Lane;
use evp_worker::checkpointer::{
    Checkpointer, CrashPoints, Logged, Setup, Sinks, StartPoint, StartPositions, Started, Stop,
};
use evp_worker::clock::SystemClock;
use evp_worker::ids::Ids;
use evp_worker::secrets::Secrets;
use evp_worker::store::contract;
use evp_worker::store::{Condition, Location, PutOutcome, Storage, StoreError};
use serde_json::json;
use tempfile::TempDir;

/// Value of a variable that the bed sets.
fn bed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run this by ./tests/run parts"))
}

/// A manifest's way to the server: everything secret is a file.
struct Place {
    secrets: TempDir,
    plan: S3Plan,
    path: String,
}

impl Place {
    fn new(test: &str) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let key = |key: &str| SecretKeyRef {
            name: "s3".into(),
            key: key.into(),
        };
        std::fs::create_dir(secrets.path().join("s3")).unwrap();
        let place = Self {
            secrets,
            plan: S3Plan {
                region: bed("EVP_BED_S3_REGION"),
                endpoint: Some(bed("EVP_BED_S3_ENDPOINT")),
                allow_http: true,
                ca: None,
                keys: Some((key("id"), key("key"))),
            },
            path: format!(
                "s3://{}/parts/checkpoint/{test}-{}",
                bed("EVP_BED_S3_BUCKET"),
                Ids::os().nonce()
            ),
        };
        place.put("id", bed("EVP_BED_S3_ACCESS_KEY"));
        place.put("key", bed("EVP_BED_S3_SECRET_KEY"));
        place
    }

    fn tls(test: &str) -> Self {
        let mut place = Self::new(test);
        place.plan.endpoint = Some(bed("EVP_BED_S3_TLS_ENDPOINT"));
        place.plan.allow_http = false;
        place.put(
            "ca",
            std::fs::read_to_string(bed("EVP_BED_S3_TLS_CA")).unwrap(),
        );
        place.plan.ca = Some(SecretKeyRef {
            name: "s3".into(),
            key: "ca".into(),
        });
        place
    }

    fn put(&self, key: &str, value: String) {
        std::fs::write(self.secrets.path().join(Path::new("s3").join(key)), value).unwrap();
    }

    fn open(&self) -> Result<Location, StoreError> {
        let secrets = Secrets::new(self.secrets.path());
        let path: StoragePath = self.path.parse().unwrap();
        Storage::new(Some(self.plan.clone()), secrets, Vec::new()).open(&path)
    }

    async fn start(&self, pod: &str) -> Result<Started, Stop> {
        let setup = Setup {
            location: self.open()?,
            identity: Identity {
                name: "orders".into(),
                uid: "u".into(),
                namespace_uid: "ns".into(),
                pod: pod.into(),
            },
            lane: Lane::default(),
            plan: json!({}),
            targets: BTreeMap::new(),
            adopt_from: None,
            reset_nonce: 0,
            history: Micros(i64::MAX),
            fingerprints: BTreeMap::new(),
            max_records: None,
            again: false,
            seen: None,
            clock: SystemClock::shared(),
            ids: Ids::os(),
            crash: CrashPoints::none(),
            report: Arc::new(Logged),
        };
        Checkpointer::start(setup, &mut Nothing).await
    }

    async fn refused(&self) -> Stop {
        match self.start("a").await {
            Err(stop) => stop,
            Ok(_) => panic!("it started"),
        }
    }
}

fn now() -> Micros {
    SystemClock::shared().now()
}

struct Nothing;

#[async_trait]
impl StartPositions for Nothing {
    async fn resolve(&mut self, _: Micros) -> Result<StartPoint, Stop> {
        Ok(StartPoint::default())
    }
}

async fn two_owners(place: Place) {
    let mut old = place.start("a").await.unwrap().checkpointer;
    old.decide(old.open(now())).await.unwrap();
    let mut new = place.start("b").await.unwrap().checkpointer;
    assert_eq!(new.body().epoch, Epoch(1));
    let fenced = old.decide(old.open(now())).await.unwrap_err();
    assert_eq!(fenced.reason, reason::FENCED, "{fenced}");
    new.roll_forward(&mut Sinks::new()).await.unwrap();
    new.decide(new.open(now())).await.unwrap();
    assert_eq!(new.body().epoch, Epoch(2));
    let store = place.open().unwrap().store;
    assert_eq!(store.list("0/epochs").await.unwrap().len(), 2);
    assert_eq!(store.list("probe").await.unwrap(), Vec::<String>::new());
}

/// What the twins in memory are held to.
#[tokio::test]
#[ignore = "bed"]
async fn the_server_keeps_the_contract_of_the_twins() {
    let place = Place::new("contract");
    contract::hold(&place.open().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_older_owner_is_fenced_by_the_store() {
    two_owners(Place::new("fence")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_server_with_an_authority_of_its_own_is_trusted_by_the_manifest_alone() {
    let mut stranger = Place::tls("stranger");
    stranger.plan.ca = None;
    assert_eq!(stranger.refused().await.reason, reason::STORE_UNAVAILABLE);
    two_owners(Place::tls("tls")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn of_racing_writers_one_wins() {
    let place = Place::new("race");
    let store = place.open().unwrap().store;
    for condition in ["absent", "matches"] {
        let condition = match condition {
            "absent" => Condition::Absent,
            _ => Condition::Matches(store.get("x").await.unwrap().unwrap().1),
        };
        let writers = (0..16).map(|n| {
            let (store, condition) = (Arc::clone(&store), condition.clone());
            async move {
                store
                    .put_if("x", format!("{condition:?} {n}").into(), &condition)
                    .await
            }
        });
        let outcomes = futures::future::join_all(writers).await;
        let won = |o: &&Result<PutOutcome, _>| matches!(o, Ok(PutOutcome::Won(_)));
        assert_eq!(outcomes.iter().filter(won).count(), 1, "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn what_is_wrong_with_the_way_to_the_store_is_named() {
    let place = Place::new("missing");
    std::fs::remove_file(place.secrets.path().join("s3/key")).unwrap();
    let stop = place.refused().await;
    assert_eq!(
        (stop.reason, stop.retry),
        (reason::SECRET_MISSING, true),
        "{stop}"
    );
    place.put("key", bed("EVP_BED_S3_SECRET_KEY"));
    let store = place.open().unwrap().store;
    std::fs::remove_file(place.secrets.path().join("s3/key")).unwrap();
    let lost = store.get("x").await.unwrap_err();
    assert_eq!(lost.reason(), reason::SECRET_MISSING, "{lost:?}");
    place.put("key", "not the key".into());
    let stop = place.refused().await;
    assert_eq!(
        (stop.reason, stop.retry),
        (reason::STORE_DENIED, true),
        "{stop}"
    );
    let mut place = Place::new("bucket");
    place.path = "s3://no-such-bucket/x".into();
    let stop = place.refused().await;
    assert_eq!(stop.reason, reason::STORE_UNAVAILABLE, "{stop}");
    assert!(stop.message.contains("does not exist"), "{stop}");
}
