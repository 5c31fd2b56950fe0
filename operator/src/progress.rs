//! Workers → progress: asks every worker pod `GET /progress` and keeps the last answer.
//!
//! On its own loop, bounded in concurrency and with a deadline; never inside a reconcile. A worker that does not answer is
//! data, not an error: its last answer grows old.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evp_api::progress::Progress;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, within};
use crate::metrics::Metrics;
use crate::status::Report;
use crate::status::pods::{PodView, pipeline_uid};

/// One round every so often.
pub const PERIOD: Duration = Duration::from_secs(5);
/// A worker that needs longer is silent.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Questions at a time: 1,000 silent workers take 1000 / 64 × 2 s, within the lifetime of a report twice over.
const CONCURRENCY: usize = 64;
/// A report is bounded by the manifest's bounds: 16 sources, 64 steps, 32 sinks, some hundred bytes each.
const LARGEST_ANSWER: usize = 1 << 20;

/// The last answers, by pod. Clones share them.
#[derive(Clone, Default)]
pub struct Reports {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

struct Answer {
    pipeline: String,
    progress: Progress,
    at: Duration,
}

impl Reports {
    /// Answers of a pipeline's pods, with their age at `elapsed`.
    pub fn of(&self, pipeline_uid: &str, elapsed: Duration) -> Vec<Report> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = answers
            .iter()
            .filter(|(_, answer)| answer.pipeline == pipeline_uid);
        let report = |(pod, answer): (&String, &Answer)| Report {
            pod_uid: pod.clone(),
            progress: answer.progress.clone(),
            age: elapsed.saturating_sub(answer.at),
        };
        ours.map(report).collect()
    }

    /// Keeps an answer.
    pub fn put(&self, pod: &str, pipeline: &str, progress: Progress, at: Duration) {
        let pipeline = pipeline.to_owned();
        let answer = Answer {
            pipeline,
            progress,
            at,
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(pod.to_owned(), answer);
    }

    /// Forgets pods that are gone.
    fn keep(&self, pods: &HashSet<String>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|pod, _| pods.contains(pod));
    }
}

/// Asks the workers, round after round.
pub struct Asker {
    /// The worker pods.
    pub pods: Store<Pod>,
    /// Where answers go.
    pub reports: Reports,
    /// Told after each round.
    pub round: Arc<Notify>,
    /// Time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// The client; without proxies and redirects.
    pub http: reqwest::Client,
}

impl Asker {
    /// A client for pods: they are asked directly.
    pub fn client() -> reqwest::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().no_proxy();
        builder.redirect(reqwest::redirect::Policy::none()).build()
    }

    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        // Before pods are listed a round would ask nobody.
        tokio::select! {
            () = stop.cancelled() => return,
            listed = self.pods.wait_until_ready() => if listed.is_err() {
                return stop.cancelled().await;
            }
        }
        loop {
            let began = self.clock.elapsed();
            self.round().await;
            self.round.notify_one();
            let left = PERIOD.saturating_sub(self.clock.elapsed().saturating_sub(began));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(left) => {}
            }
        }
    }

    /// Asks every pod that has an address, once.
    pub async fn round(&self) {
        let pods = self.pods.state();
        let mut known = HashSet::new();
        let mut questions = Vec::new();
        for pod in &pods {
            let view = PodView::of(pod);
            known.insert(view.uid.clone());
            if let (Some(pipeline), Some(address)) = (pipeline_uid(pod), view.address) {
                questions.push((view.uid, pipeline.clone(), address));
            }
        }
        self.reports.keep(&known);
        futures::stream::iter(questions)
            .map(|(pod, pipeline, address)| async move {
                self.ask(&pod, &pipeline, &address).await;
            })
            .buffer_unordered(CONCURRENCY)
            .collect::<()>()
            .await;
    }

    async fn ask(&self, pod: &str, pipeline: &str, (host, port): &(String, u16)) {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let url = format!("http://{host}:{port}/progress");
        match within(&self.clock, ANSWER_DEADLINE, self.get(&url)).await {
            Some(Ok(body)) => match serde_json::from_slice(&body) {
                Ok(progress) => {
                    self.metrics.asked("answered");
                    self.reports
                        .put(pod, pipeline, progress, self.clock.elapsed());
                }
                Err(error) => {
                    self.metrics.asked("unreadable");
                    tracing::debug!(url, %error, "a worker's report cannot be read");
                }
            },
            Some(Err(_)) | None => self.metrics.asked("silent"),
        }
    }

    async fn get(&self, url: &str) -> reqwest::Result<Vec<u8>> {
        let mut response = self.http.get(url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                body.clear();
                break;
            }
        }
        Ok(body)
    }
}
