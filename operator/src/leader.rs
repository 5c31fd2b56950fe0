//! One replica leads: a `coordination.k8s.io` Lease, written only at the resourceVersion that was read.
//!
//! The wall clocks of two machines are never compared: a lease is over when it has not changed for its length by our own
//! clock. A leader that could not renew within less than that stops for good (the process ends), so that two never lead.
//! The client is one without retries: a late write must not land after the deadline.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, within};

/// Length of a lease: how long after a leader's death the next one leads.
const LEASE: Duration = Duration::from_secs(15);
/// A leader that has not renewed for so long stops. The rest up to [`LEASE`] is for its last write to end.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts.
const PERIOD: Duration = Duration::from_secs(2);
/// One attempt; below what is left of [`LEASE`] after [`RENEW_DEADLINE`].
const ATTEMPT: Duration = Duration::from_secs(4);

/// What to do about a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// It is free or over: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else leads.
    Wait,
}

/// Decides. `unchanged`: for how long we have seen the lease as it is, by our own clock.
pub fn decide(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Step {
    let Some(lease) = lease else {
        return Step::Create;
    };
    let seconds = lease
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok());
    let length = seconds.map_or(LEASE, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        None | Some("") => Step::Take,
        Some(holder) if holder == me => Step::Renew,
        Some(_) if unchanged > length => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// Seeks and keeps the lead.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: SharedClock,
    /// The lease as last read, and when it was first seen so.
    seen: Option<(LeaseSpec, Duration)>,
}

impl Election {
    /// `client` must not retry. `identity`: unique among the replicas.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        clock: SharedClock,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            clock,
            seen: None,
        }
    }

    /// Returns when we lead. Cancel-safe.
    pub async fn win(&mut self) {
        while !self.attempt().await {
            self.clock.sleep(PERIOD).await;
        }
    }

    /// Renews; returns when the lead is lost, or `stop` was signalled and the lease is given back. `true`: given back.
    pub async fn hold(&mut self, stop: CancellationToken) -> bool {
        let mut renewed = self.clock.elapsed();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let clock = self.clock.clone();
                    within(&clock, ATTEMPT, self.give_back()).await;
                    return true;
                }
                () = self.clock.sleep(PERIOD) => {}
            }
            let began = self.clock.elapsed();
            if self.attempt().await {
                renewed = began;
            } else if self.somebody_else()
                || self.clock.elapsed().saturating_sub(renewed) > RENEW_DEADLINE
            {
                return false;
            }
        }
    }

    fn somebody_else(&self) -> bool {
        let holder = self
            .seen
            .as_ref()
            .and_then(|(lease, _)| lease.holder_identity.as_deref());
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.identity)
    }

    /// Do we lead, as far as one look at the lease can tell?
    async fn attempt(&mut self) -> bool {
        let clock = self.clock.clone();
        let looked = within(&clock, ATTEMPT, self.step()).await;
        match looked {
            Some(Ok(leads)) => leads,
            Some(Err(error)) => {
                tracing::warn!(error = %&error as &dyn std::error::Error, "cannot read or write the leader's lease");
                false
            }
            None => {
                tracing::warn!("reading or writing the leader's lease took too long");
                false
            }
        }
    }

    async fn step(&mut self) -> kube::Result<bool> {
        let lease = self.api.get_opt(&self.name).await?;
        let spec = lease
            .as_ref()
            .map(|lease| lease.spec.clone().unwrap_or_default());
        let unchanged = self.unchanged(spec.as_ref());
        let written = match (decide(spec.as_ref(), &self.identity, unchanged), lease) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create, _) | (_, None) => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                };
                let spec = Some(self.ours(None, true));
                self.api
                    .create(&PostParams::default(), &Lease { metadata, spec })
                    .await
            }
            (step, Some(mut lease)) => {
                lease.spec = Some(self.ours(lease.spec.as_ref(), step == Step::Take));
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
        };
        match written {
            Ok(lease) => {
                self.unchanged(lease.spec.as_ref());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// For how long the lease has been as it is.
    fn unchanged(&mut self, spec: Option<&LeaseSpec>) -> Duration {
        let now = self.clock.elapsed();
        match (&self.seen, spec) {
            (Some((seen, since)), Some(spec)) if seen == spec => now.saturating_sub(*since),
            (_, spec) => {
                self.seen = spec.map(|spec| (spec.clone(), now));
                Duration::ZERO
            }
        }
    }

    fn ours(&self, before: Option<&LeaseSpec>, taken: bool) -> LeaseSpec {
        let now = Some(MicroTime(self.clock.now()));
        let acquired = before
            .and_then(|b| b.acquire_time.clone())
            .filter(|_| !taken);
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: acquired.or_else(|| now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions + i32::from(taken && before.is_some())),
            ..LeaseSpec::default()
        }
    }

    /// So that the next leader need not wait.
    async fn give_back(&self) {
        let Ok(mut lease) = self.api.get(&self.name).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else {
            return;
        };
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            // Failing here only costs the successor the length of the lease.
            let _ = self
                .api
                .replace(&self.name, &PostParams::default(), &lease)
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[track_caller]
    fn check(lease: Option<&LeaseSpec>, unchanged: u64, wanted: Step) {
        assert_eq!(decide(lease, "me", Duration::from_secs(unchanged)), wanted);
    }

    #[test]
    fn no_lease_is_created() {
        check(None, 0, Step::Create);
    }

    #[test]
    fn our_own_lease_is_renewed_however_old() {
        check(Some(&held_by("me")), 0, Step::Renew);
        check(Some(&held_by("me")), 100, Step::Renew);
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once() {
        check(Some(&held_by("")), 0, Step::Take);
    }

    #[test]
    fn anothers_lease_is_taken_only_when_it_stood_still_for_its_length() {
        check(Some(&held_by("other")), 0, Step::Wait);
        check(Some(&held_by("other")), 15, Step::Wait);
        check(Some(&held_by("other")), 16, Step::Take);
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        assert!(RENEW_DEADLINE + ATTEMPT < LEASE);
    }
}
