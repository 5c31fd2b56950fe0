//! One worker process: started as in a pod, asked for its progress, signalled, awaited.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use evp_api::progress::{Halt, Progress};
use evp_tests::{bed, succeed};

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks at something that is waited for.
pub(super) async fn look_again() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// An address that nobody listens at.
pub(super) fn free_address() -> SocketAddr {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.local_addr().unwrap()
}

/// What an operator gives a pod.
pub(super) struct Pod<'a> {
    pub(super) uid: &'a str,
    pub(super) pipeline: &'a Path,
    pub(super) secrets: &'a Path,
    /// Where it may leave its log and scratch files.
    pub(super) dir: &'a Path,
    /// Where it ends itself; empty: nowhere. A step of the protocol, or a record: `orders/0/17`.
    pub(super) crash_at: &'a str,
    pub(super) seen_epoch: Option<i64>,
}

/// A worker. Dropped, it is killed.
pub(super) struct Worker {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    client: reqwest::Client,
}

impl Worker {
    pub(super) fn start(pod: &Pod<'_>) -> Self {
        let Pod {
            uid,
            pipeline,
            secrets,
            dir,
            crash_at,
            seen_epoch,
        } = pod;
        let address = free_address();
        let log = dir.join(format!("{uid}-{}.log", address.port()));
        let to = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(bed("EVP_BED_WORKER_BIN"));
        command
            .args(["worker", "--lane", "0", "--pipeline"])
            .arg(pipeline)
            .arg("--secrets")
            .arg(secrets)
            .arg("--scratch")
            .arg(dir.join("scratch"))
            .arg("--listen")
            .arg(address.to_string())
            .env_clear()
            .env("POD_NAME", format!("orders-{uid}"))
            .env("POD_UID", uid)
            .env("EVP_MEMORY_LIMIT_BYTES", (256 << 20).to_string())
            .stdin(Stdio::null())
            .stdout(to.try_clone().unwrap())
            .stderr(to);
        if let Some(epoch) = seen_epoch {
            command.arg("--seen-epoch").arg(epoch.to_string());
        }
        match crash_at {
            &"" => {}
            record if record.contains('/') => drop(command.env("EVP_CRASH_ON", record)),
            step => drop(command.env("EVP_CRASH_AT", step)),
        }
        Self {
            child: command.spawn().unwrap(),
            address,
            log,
            client: reqwest::Client::new(),
        }
    }

    /// What it answers at one of its endpoints: status and text. `None`: it does not answer.
    pub(super) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let request = self
            .client
            .get(format!("http://{}{path}", self.address))
            .timeout(Duration::from_secs(2));
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn progress(&self) -> Option<Progress> {
        let (_, text) = self.get("/progress").await?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Waits for a report that shows it. Stops the test if the process ends before that.
    pub(super) async fn until(
        &mut self,
        what: &str,
        shows: impl Fn(&Progress) -> bool,
    ) -> Progress {
        let begun = Instant::now();
        loop {
            let seen = self.progress().await;
            if let Some(seen) = seen.as_ref().filter(|p| shows(p)) {
                return seen.clone();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < DEADLINE,
                "never shown: {what} (ended: {ended:?}); {seen:?}\n{}",
                self.log_text()
            );
            look_again().await;
        }
    }

    /// Waits until it says that this keeps it from working, on every way it has to say so.
    pub(super) async fn halted(&mut self, reason: &str) -> Halt {
        let halted = |p: &Progress| p.reason.as_ref().is_some_and(|halt| halt.reason == reason);
        let progress = self.until(reason, halted).await;
        assert!(!progress.ready);
        let (status, text) = self.get("/readyz").await.unwrap();
        assert_eq!(status, 503, "{text}");
        assert_eq!(self.get("/healthz").await.unwrap().0, 200);
        let log = self.log_text();
        assert!(log.contains(reason), "{reason} is not in the log:\n{log}");
        progress.reason.unwrap()
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        succeed(Command::new("kill").arg(format!("-{name}")).arg(pid));
    }

    /// As a node that loses power.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As a kubelet ends a pod.
    pub(super) async fn terminate(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.log_text());
    }

    /// Waits until it ends itself at the place it was told to.
    pub(super) async fn crashed(mut self) {
        let status = self.ended().await;
        let aborted = 6;
        assert_eq!(status.signal(), Some(aborted), "{}", self.log_text());
    }

    /// Waits until it ends itself (`None`), or says that this keeps it from working.
    pub(super) async fn crashed_or_halted(&mut self, reason: &str) -> Option<Halt> {
        let begun = Instant::now();
        loop {
            let seen = self.progress().await.and_then(|p| p.reason);
            if let Some(halt) = seen.filter(|halt| halt.reason == reason) {
                return Some(halt);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                let aborted = 6;
                assert_eq!(status.signal(), Some(aborted), "{}", self.log_text());
                return None;
            }
            assert!(begun.elapsed() < DEADLINE, "{}", self.log_text());
            look_again().await;
        }
    }

    async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "it never ends; {:?}\n{}",
                self.progress().await,
                self.log_text()
            );
            look_again().await;
        }
    }

    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
