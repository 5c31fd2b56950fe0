//! A checkpoint of which any one object is deleted, cut, flipped in one bit or put back to what it was: told by name, and nothing
//! goes on from it. The objects are taken from a listing: one that is added is one that is damaged here.

use std::collections::BTreeMap;
use std::sync::Arc;

use evp_api::reason;
use evp_tests::bed;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline, bucket};

const RECORDS: i64 = 900;

/// Checkpoints damaged at the same time.
const AT_ONCE: usize = 4;

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Delete,
    Truncate,
    Flip,
    /// The head as it was some epochs ago; of an object that is written once, another one of its kind.
    RollBack,
}

const DAMAGES: [Damage; 4] = [
    Damage::Delete,
    Damage::Truncate,
    Damage::Flip,
    Damage::RollBack,
];

/// Objects by name.
type Objects = BTreeMap<String, Vec<u8>>;

async fn objects(below: &Path) -> Objects {
    let store = bucket();
    let listed = store.list(Some(below)).map_ok(|o| o.location);
    let names: Vec<_> = listed.try_collect().await.unwrap();
    let mut objects = Objects::new();
    for at in names {
        let bytes = store.get(&at).await.unwrap().bytes().await.unwrap();
        let name = at.as_ref()[below.as_ref().len() + 1..].to_owned();
        objects.insert(name, bytes.to_vec());
    }
    objects
}

/// Which part of a checkpoint a name belongs to, without the lane.
fn kind(name: &str) -> &str {
    let name = name.strip_prefix("0/").unwrap_or(name);
    name.split('/').next().unwrap()
}

/// A checkpoint at rest, and what it was.
struct Rest {
    pipeline: Pipeline,
    objects: Objects,
    /// The head some epochs before.
    older: Vec<u8>,
}

impl Rest {
    /// A pipeline that ends as told once it has decided some epochs.
    async fn new(topic: &str, crash_at: &str) -> Self {
        let pipeline = Pipeline::new(topic);
        let mut worker = pipeline.start_armed("a", crash_at);
        worker.until("a second epoch", |p| p.epoch >= 2).await;
        let head = pipeline.object("0/head.json");
        let older = bucket().get(&head).await.unwrap().bytes().await.unwrap();
        if crash_at.is_empty() {
            worker
                .until("all is committed", |p| p.ledger.read == RECORDS)
                .await;
            worker.terminate().await;
        } else {
            worker.crashed().await;
        }
        Self {
            objects: objects(&pipeline.object("")).await,
            older: older.to_vec(),
            pipeline,
        }
    }

    fn tables(&self) -> [Path; 3] {
        ["bronze", "gold", "dead"].map(|t| Path::from(format!("{}/{t}", self.pipeline.prefix)))
    }

    /// The objects that a recovery reads: those without which a lane cannot be, and those that the head names.
    fn read(&self, kinds: &[&str]) -> Vec<String> {
        let head: Value = serde_json::from_slice(&self.objects["0/head.json"]).unwrap();
        let text = format!("{}{}", head["body"], head["rolling"]);
        let named = |name: &str| text.contains(name.rsplit('/').next().unwrap());
        let mut read = Vec::new();
        for name in self.objects.keys() {
            let needed = match kind(name) {
                "owner.json" | "head.json" | "born.json" | "plans" => true,
                "state" | "outbox" | "intents" => named(name),
                "epochs" => false,
                other => panic!("{other}: who reads it?"),
            };
            if needed && kinds.contains(&kind(name)) {
                read.push(name.clone());
            }
        }
        read
    }

    /// The object after the damage; `None`: it is gone.
    fn damaged(&self, name: &str, damage: Damage) -> Option<Vec<u8>> {
        let whole = &self.objects[name];
        match damage {
            Damage::Delete => None,
            Damage::Truncate => Some(whole[..whole.len() / 2].to_vec()),
            Damage::Flip => {
                let mut bytes = whole.clone();
                bytes[whole.len() / 2] ^= 1;
                Some(bytes)
            }
            Damage::RollBack if kind(name) == "head.json" => Some(self.older.clone()),
            Damage::RollBack => {
                let mut others = self.objects.iter().filter(|(n, _)| kind(n) == kind(name));
                others.find(|(_, b)| *b != whole).map(|(_, b)| b.clone())
            }
        }
    }

    /// A copy of the checkpoint with the damage, and a worker that is to go on from it; what it says.
    async fn reason(&self, name: &str, damage: Damage) -> String {
        let copy = format!("{}/{damage:?}/{name}", self.pipeline.prefix);
        let store = bucket();
        for (object, bytes) in &self.objects {
            let at = Path::from(format!("{copy}/{object}"));
            let bytes = if object == name {
                self.damaged(name, damage)
            } else {
                Some(bytes.clone())
            };
            if let Some(bytes) = bytes {
                store.put(&at, bytes.into()).await.unwrap();
            }
        }
        let mut manifest = self.pipeline.manifest.clone();
        let spec = &mut manifest["spec"]["checkpoint"];
        spec["path"] = format!("s3://{}/{copy}", bed("EVP_BED_S3_BUCKET")).into();
        // Another plan than that of the newest epoch: what is undone is rolled forward under the old one.
        spec["maxRecordsPerEpoch"] = 90.into();
        let uid = copy.rsplit_once('/').unwrap().1.replace(['/', '.'], "-");
        let uid = format!("{uid}-{damage:?}");
        let mut worker = self
            .pipeline
            .start_with(&manifest.to_string(), &uid, "", None);
        let told = worker
            .until(&format!("{damage:?} of {name}"), |p| {
                p.reason.as_ref().is_some_and(|halt| halt.stalled)
            })
            .await;
        worker.terminate().await;
        let halt = told.reason.unwrap();
        assert!(halt.message.contains("restore"), "{halt:?}");
        halt.reason
    }

    /// Each damage of each of these objects stops with one of these reasons, and `unchanged` stays as it is.
    async fn assert_stops(self: &Arc<Self>, kinds: &[&str], unchanged: &[Path]) {
        let before = all(unchanged).await;
        let names = self.read(kinds);
        for kind_wanted in kinds {
            let found = names.iter().any(|name| kind(name) == *kind_wanted);
            assert!(found, "no {kind_wanted} in {:?}", self.objects.keys());
        }
        let cells = names
            .iter()
            .flat_map(|name| DAMAGES.map(|d| (name.clone(), d)));
        let told: Vec<_> = futures::stream::iter(cells)
            .map(|(name, damage)| {
                let rest = Arc::clone(self);
                tokio::spawn(async move {
                    let told = rest.reason(&name, damage).await;
                    (name, damage, told)
                })
            })
            .buffer_unordered(AT_ONCE)
            .map(Result::unwrap)
            .collect()
            .await;
        let wrong: Vec<_> = told
            .iter()
            .filter(|(name, damage, told)| *told != expected(name, *damage))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(all(unchanged).await, before);
        eprintln!("{} damages", told.len());
    }
}

fn expected(name: &str, damage: Damage) -> &'static str {
    match (kind(name), damage) {
        // Nobody was told which epoch it had reached: its sinks are ahead of it.
        ("head.json", Damage::RollBack) => reason::CHECKPOINT_BEHIND_SINK,
        _ => reason::CHECKPOINT_DAMAGED,
    }
}

async fn all(folders: &[Path]) -> Vec<Objects> {
    futures::future::join_all(folders.iter().map(objects)).await
}

async fn fed() -> Feed {
    let mut feed = Feed::new(2).await;
    feed.send(&format!("--limit {RECORDS} --seed 9 {PLANTED}"))
        .await;
    feed
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn each_damage_of_each_object_of_a_checkpoint_is_told_and_changes_no_table() {
    let feed = fed().await;
    let rest = Arc::new(Rest::new(&feed.topic.name, "").await);
    let kinds = ["owner.json", "head.json", "born.json", "state"];
    rest.assert_stops(&kinds, &rest.tables()).await;
    rest.pipeline.commit("b", RECORDS).await;
    rest.pipeline.assert_holds(&feed.expected()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn each_damage_of_what_a_decided_epoch_waits_for_is_told_and_changes_no_table() {
    let feed = fed().await;
    let crash_at = "commit.send@gold:before:4";
    let rest = Arc::new(Rest::new(&feed.topic.name, crash_at).await);
    // The other sinks have their part of the epoch, or may take it.
    let [_, gold, _] = rest.tables();
    rest.assert_stops(&["plans", "outbox"], &[gold]).await;
    rest.pipeline.commit("b", RECORDS).await;
    rest.pipeline.assert_holds(&feed.expected()).await;
}
