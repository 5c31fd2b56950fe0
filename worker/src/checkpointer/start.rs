//! How a process comes to own a lane: probe, read, then a new start or a take-over.

mod owner;

use std::collections::VecDeque;

use bytes::Bytes;
use evp_core::position::Micros;
use evp_core::protocol::decide::{self, Facts, Found, Refusal};
use evp_core::protocol::digest::{Digest, canonical};
use evp_core::protocol::head::{
    Body, Born, FORMAT, Head, Owner, OwnerFile, Rolling, Unreadable, parse, sealed,
};
use evp_core::protocol::identity::Namespace;
use evp_core::protocol::paths;
use serde::Serialize;

use super::crash::{Moment, Step};
use super::io::{Io, Patience};
use super::stop::Stop;
use super::swap::{Written, parse_head};
use super::{Checkpointer, PlanObject, Setup, StartPoint, StartPositions, Started};
use crate::store::{Condition, ETag, probe};

/// Times that somebody else may be faster during one start.
const MOST_RACES: u32 = 20;

/// What is at the path.
struct Objects {
    owner: Found<OwnerFile>,
    owner_tag: Option<ETag>,
    head: Found<Head>,
    head_tag: Option<ETag>,
    born: Found<Born>,
}

/// A lane that is ours.
struct Owned {
    head: Head,
    etag: ETag,
    new: bool,
}

/// A start under way.
struct Start {
    io: Io,
    setup: Setup,
    plan: PlanObject,
}

impl Checkpointer {
    /// Comes to own the lane: checks the store, reads what is there, then decides epoch 0 or takes the lane over.
    ///
    /// `Err` with `retry`: the store does not answer, or somebody is always faster.
    pub async fn start(setup: Setup, positions: &mut dyn StartPositions) -> Result<Started, Stop> {
        let mut start = Start::new(setup)?;
        start.probe().await?;
        let mut doubted = false;
        for _ in 0..MOST_RACES {
            let objects = start.read().await?;
            let owned = match start.decide(&objects) {
                // A gap may be the moment between two reads of ours: it counts when it is still there.
                decide::Startup::Refuse(Refusal::Damaged(_)) if !doubted => {
                    doubted = true;
                    None
                }
                decide::Startup::Refuse(refusal) => {
                    return Err(Stop::refusal(&start.io.url, refusal));
                }
                decide::Startup::NewStart { .. } => start.begin(objects.owner, positions).await?,
                decide::Startup::Resume { born } => start.resume(objects, born).await?,
                decide::Startup::Adopt => start.adopt(objects).await?,
            };
            if let Some(owned) = owned {
                return Ok(start.finish(owned));
            }
        }
        Err(Stop::retried(
            evp_api::reason::STARTING,
            format!("{}: another process is always faster", start.io.url),
        ))
    }
}

impl Start {
    fn new(setup: Setup) -> Result<Self, Stop> {
        let io = Io {
            store: setup.location.store.clone(),
            url: setup.location.url.as_str().trim_end_matches('/').to_owned(),
            clock: setup.clock.clone(),
            ids: setup.ids.clone(),
            crash: setup.crash.clone(),
            report: setup.report.clone(),
            patience: Patience::Bounded,
        };
        let bytes = canonical(&setup.plan).map_err(|e| unwritable(&io, "plan", &e))?;
        let plan = PlanObject {
            digest: Digest::of(&bytes),
            bytes,
            written: false,
        };
        Ok(Self { io, setup, plan })
    }

    async fn probe(&self) -> Result<(), Stop> {
        let Io {
            store, url, ids, ..
        } = &self.io;
        self.io
            .patiently(async || probe::probe(store.as_ref(), url, &ids.nonce()).await)
            .await
    }

    /// In the reverse order of creation, so that a start of somebody else in between leaves no gap.
    async fn read(&self) -> Result<Objects, Stop> {
        let lane = &self.setup.lane;
        let born = self
            .io
            .get(&lane.born())
            .await?
            .map(|(bytes, _)| parse(&bytes));
        let found = self.io.get(&lane.head()).await?;
        let owner = self.io.get(paths::OWNER).await?;
        let head = parse_head(found.as_ref());
        Ok(Objects {
            owner: owner.as_ref().map(|(bytes, _)| parse(bytes)),
            owner_tag: owner.map(|(_, tag)| tag),
            head,
            head_tag: found.map(|(_, tag)| tag),
            born,
        })
    }

    fn decide(&self, objects: &Objects) -> decide::Startup {
        fn by_ref<T>(found: Option<&Result<T, Unreadable>>) -> Found<&T> {
            found.map(|f| f.as_ref().map_err(Clone::clone))
        }
        decide::startup(Facts {
            owner: by_ref(objects.owner.as_ref()),
            head: by_ref(objects.head.as_ref()),
            born: by_ref(objects.born.as_ref()),
            me: &self.setup.identity,
            seen: self.setup.seen,
            adopt_from: self.setup.adopt_from.as_deref(),
            reset_nonce: self.setup.reset_nonce,
            fingerprints: &self.setup.fingerprints,
        })
    }

    /// A new start. `None`: somebody else was faster.
    async fn begin(
        &mut self,
        owner: Found<OwnerFile>,
        positions: &mut dyn StartPositions,
    ) -> Result<Option<Owned>, Stop> {
        let Some(checkpoint) = self.claim(owner).await? else {
            return Ok(None);
        };
        let Some((head, etag)) = self.create(checkpoint, positions).await? else {
            return Ok(None);
        };
        self.bear(&head.body).await?;
        Ok(Some(Owned {
            head,
            etag,
            new: true,
        }))
    }

    /// Takes the lane over. `None`: the head changed meanwhile.
    async fn resume(&self, objects: Objects, born: bool) -> Result<Option<Owned>, Stop> {
        let Objects {
            owner: Some(Ok(_)),
            head: Some(Ok(head)),
            head_tag: Some(tag),
            ..
        } = objects
        else {
            return Err(Stop::damaged(
                &self.io.url,
                "owner.json or head.json is gone",
            ));
        };
        let Some((head, etag)) = self.take_over(head, tag).await? else {
            return Ok(None);
        };
        if !born {
            self.bear(&head.body).await?;
        }
        Ok(Some(Owned {
            head,
            etag,
            new: false,
        }))
    }

    /// Decides epoch 0. `None`: somebody else was faster.
    async fn create(
        &mut self,
        checkpoint: String,
        positions: &mut dyn StartPositions,
    ) -> Result<Option<(Head, ETag)>, Stop> {
        let now = self.io.clock.now();
        let start = positions.resolve(now).await?;
        self.io
            .put(
                Step::PlanPut,
                &paths::plan(&self.plan.digest),
                self.plan.bytes.clone().into(),
            )
            .await?;
        self.plan.written = true;
        let body = self.first_body(&checkpoint, now, start);
        let owner = Owner::first(&self.setup.identity.pod);
        let head = self.seal(owner, body, Rolling::default())?;
        self.write_head(head, &Condition::Absent, Step::HeadCreate)
            .await
    }

    fn first_body(&self, checkpoint: &str, now: Micros, start: StartPoint) -> Body {
        let of = Namespace {
            checkpoint,
            incarnation: &self.io.ids.random128(),
            lane: &self.setup.lane,
        };
        let mut body = Body {
            decided_time: self.io.clock.now(),
            reset_nonce: self.setup.reset_nonce,
            positions: start.positions,
            watermarks: start.watermarks,
            ..Body::first(&of, self.plan.digest.clone(), now)
        };
        body.set_sinks(&self.setup.targets);
        body
    }

    /// Swaps in our pod under the next term. `None`: the head changed meanwhile.
    async fn take_over(&self, head: Head, tag: ETag) -> Result<Option<(Head, ETag)>, Stop> {
        let Setup {
            identity,
            max_records,
            again,
            ..
        } = &self.setup;
        let taken = head.owner.taken_by(&identity.pod);
        let mut owner = if *again {
            Owner {
                takeovers: head.owner.takeovers,
                ..taken
            }
        } else {
            taken.after_death(max_records.unwrap_or(u64::MAX))
        };
        if mistaken!(TermKept) {
            owner.term = head.owner.term;
        }
        let (forgets, returns) = (mistaken!(SupersededForgotten), mistaken!(TakeOverLoop));
        if forgets || returns {
            owner.superseded.clear();
        }
        let head = self.seal(owner, head.body, head.rolling)?;
        self.write_head(head, &Condition::Matches(tag), Step::OwnSwap)
            .await
    }

    fn seal(&self, owner: Owner, body: Body, rolling: Rolling) -> Result<Head, Stop> {
        let name = self.setup.lane.head();
        Head::seal(self.io.ids.nonce(), owner, body, rolling)
            .map_err(|e| Stop::unreadable(&self.io.url, &name, &e))
    }

    async fn write_head(
        &self,
        head: Head,
        condition: &Condition,
        step: Step,
    ) -> Result<Option<(Head, ETag)>, Stop> {
        let name = self.setup.lane.head();
        let bytes = head
            .to_bytes()
            .map_err(|e| Stop::unreadable(&self.io.url, &name, &e))?;
        let ours = |there: &Bytes| Head::from_bytes(there).is_ok_and(|h| h.write == head.write);
        self.io.crash.hit(step, Moment::Before);
        let written = self
            .io
            .put_once(&name, bytes.into(), condition, ours)
            .await?;
        self.io.crash.hit(step, Moment::After);
        match written {
            Written::Ours(tag) => Ok(Some((head, tag))),
            Written::Theirs(_) => Ok(None),
        }
    }

    /// Says that epoch 0 is decided; must be there before epoch 1 is.
    async fn bear(&self, body: &Body) -> Result<(), Stop> {
        if mistaken!(BornLeftOut) {
            return Ok(());
        }
        let name = self.setup.lane.born();
        let born = Born {
            format: FORMAT,
            checkpoint: body.checkpoint.clone(),
            incarnation: body.born().to_owned(),
        };
        let bytes = bytes_of(&self.io, &name, &born)?;
        self.io.crash.hit(Step::BornCreate, Moment::Before);
        let written = self
            .io
            .put_once(&name, bytes, &Condition::Absent, |there| {
                parse(there).as_ref() == Ok(&born)
            })
            .await?;
        self.io.crash.hit(Step::BornCreate, Moment::After);
        match written {
            Written::Ours(_) => Ok(()),
            Written::Theirs(_) => Err(Stop::damaged(
                &self.io.url,
                "born.json and head.json are of different lives",
            )),
        }
    }

    fn finish(self, owned: Owned) -> Started {
        let Owned { head, etag, new } = owned;
        let Self { io, setup, plan } = self;
        let Setup {
            lane,
            targets,
            reset_nonce,
            history,
            fingerprints,
            ..
        } = setup;
        let named = VecDeque::from([head.body.state_files().map(|f| f.name.clone()).collect()]);
        let (body, rolling) = (head.body.clone(), head.rolling.clone());
        let io = io.with(Patience::Endless);
        let undone = rolling.undone.clone();
        let checkpointer = Checkpointer {
            io,
            lane,
            plan,
            targets,
            reset_nonce,
            history,
            fingerprints,
            head,
            etag,
            rolling,
            copied: false,
            asked: new,
            named,
            copies_from: None,
        };
        Started {
            checkpointer,
            body,
            undone,
            new,
        }
    }
}

fn bytes_of<T: Serialize>(io: &Io, name: &str, value: &T) -> Result<Bytes, Stop> {
    let bytes = sealed(value).map_err(|e| unwritable(io, name, &e))?;
    Ok(bytes.into())
}

fn unwritable(io: &Io, name: &str, e: &serde_json::Error) -> Stop {
    Stop::damaged(&io.url, &format!("{name} cannot be written: {e}"))
}
