//! A network between a worker and the object store that does what it is told to: it loses answers, refuses, resets, is slow,
//! holds a request back, forgets conditions.
//!
//! One request a connection: the server is asked to close, so that an answer ends where its bytes end. Nothing that is
//! signed is changed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evp_tests::bed;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::pipeline::bucket;

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It is done, and the answer is lost.
    LoseAnswer,
    /// It is done, and the answer says that the server failed: 500.
    Fail,
    /// It is not done: 503.
    Refuse,
    /// It is not done: the connection breaks.
    Reset,
    /// The answer comes in small pieces.
    Slow,
    /// It is forwarded once [`Rule::release`] is called.
    Hold,
    /// A conditional write is done without its condition.
    ForgetCondition,
}

struct Rules(Mutex<Vec<Arc<Rule>>>);

/// What happens to some of the requests.
pub(super) struct Rule {
    method: &'static str,
    part: String,
    which: fn(u32) -> bool,
    fault: Fault,
    passes: Mutex<u32>,
    met: watch::Sender<u32>,
    released: watch::Sender<bool>,
}

/// The network. It ends with its test's runtime.
pub(super) struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
}

impl Rule {
    /// Waits until it was followed for the first time.
    pub(super) async fn met(&self) {
        let mut met = self.met.subscribe();
        let waited = tokio::time::timeout(Duration::from_mins(1), met.wait_for(|n| *n > 0)).await;
        assert!(waited.is_ok(), "no {} of {}", self.method, self.part);
    }

    pub(super) fn times_met(&self) -> u32 {
        *self.met.borrow()
    }

    /// Lets go what is held, and holds nothing any more.
    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Is it for this request?
    fn takes(&self, method: &str, path: &str) -> bool {
        if self.method != method || !path.contains(&self.part) {
            return false;
        }
        let mut passes = self.passes.lock().unwrap();
        *passes += 1;
        (self.which)(*passes)
    }
}

impl Proxy {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(Rules(Mutex::new(Vec::new())));
        let shared = Arc::clone(&rules);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let rules = Arc::clone(&shared);
                // A broken connection is what this is about.
                tokio::spawn(async move { pass(client, &rules).await.ok() });
            }
        });
        Self { address, rules }
    }

    /// Where the worker finds it.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on: requests of this method whose path contains `part` are counted from 1, and those of `which` get the fault.
    pub(super) fn on(
        &self,
        method: &'static str,
        part: &str,
        which: fn(u32) -> bool,
        fault: Fault,
    ) -> Arc<Rule> {
        let rule = Arc::new(Rule {
            method,
            part: part.to_owned(),
            which,
            fault,
            passes: Mutex::new(0),
            met: watch::channel(0).0,
            released: watch::channel(false).0,
        });
        self.rules.0.lock().unwrap().push(Arc::clone(&rule));
        rule
    }
}

impl Rules {
    /// The first rule that is for this request; the others count it too.
    fn find(&self, method: &str, path: &str) -> Option<Arc<Rule>> {
        let rules = self.0.lock().unwrap();
        let mut found = None;
        for rule in rules.iter() {
            if rule.takes(method, path) && found.is_none() {
                found = Some(Arc::clone(rule));
            }
        }
        found
    }
}

struct Request {
    method: String,
    path: String,
    conditional: bool,
    head: Vec<u8>,
    body: Vec<u8>,
}

async fn read(client: &mut TcpStream) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 2;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let header = |name: &str| {
        let of = |line: &str| Some(line.split_once(": ")?.0.eq_ignore_ascii_case(name));
        text.lines().find(|l| of(l) == Some(true))
    };
    assert!(
        header("transfer-encoding").is_none(),
        "a length is expected"
    );
    let length = header("content-length").map_or(0, |l| l[16..].trim().parse().unwrap());
    let conditional = header("if-match").is_some() || header("if-none-match").is_some();
    let mut body = bytes.split_off(end + 2);
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    bytes.truncate(end);
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        conditional,
        head: bytes,
        body,
    })
}

async fn pass(mut client: TcpStream, rules: &Rules) -> std::io::Result<()> {
    let request = read(&mut client).await?;
    let rule = rules.find(&request.method, &request.path);
    let met = || {
        if let Some(rule) = &rule {
            rule.met.send_modify(|n| *n += 1);
        }
    };
    match rule.as_ref().map(|rule| rule.fault) {
        Some(Fault::LoseAnswer) => {
            forward(&request)
                .await?
                .read_to_end(&mut Vec::new())
                .await?;
            met();
            Ok(())
        }
        Some(Fault::Fail) => {
            forward(&request)
                .await?
                .read_to_end(&mut Vec::new())
                .await?;
            met();
            say(&mut client, "500 Internal Server Error").await
        }
        Some(Fault::Refuse) => {
            met();
            say(&mut client, "503 Slow Down").await
        }
        Some(Fault::Reset) => {
            met();
            client.set_zero_linger()
        }
        Some(Fault::Slow) => {
            met();
            slowly(&mut client, &mut forward(&request).await?).await
        }
        Some(Fault::Hold) => {
            met();
            let mut released = rule.as_ref().unwrap().released.subscribe();
            released.wait_for(|r| *r).await.ok();
            answer(&mut client, &mut forward(&request).await?).await
        }
        Some(Fault::ForgetCondition) if request.conditional => {
            met();
            unconditionally(&mut client, request).await
        }
        None | Some(Fault::ForgetCondition) => {
            answer(&mut client, &mut forward(&request).await?).await
        }
    }
}

/// An answer without a body.
async fn say(client: &mut TcpStream, status: &str) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await
}

async fn forward(request: &Request) -> std::io::Result<TcpStream> {
    let server = bed("EVP_BED_S3_ENDPOINT");
    let mut server = TcpStream::connect(server.trim_start_matches("http://")).await?;
    server.write_all(&request.head).await?;
    server.write_all(b"Connection: close\r\n\r\n").await?;
    server.write_all(&request.body).await?;
    Ok(server)
}

async fn answer(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    tokio::io::copy(server, client).await?;
    client.shutdown().await
}

async fn slowly(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    let mut all = Vec::new();
    server.read_to_end(&mut all).await?;
    for piece in all.chunks(all.len().div_ceil(20).max(1)) {
        client.write_all(piece).await?;
        client.flush().await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.shutdown().await
}

/// As a store does that ignores the headers it does not know.
async fn unconditionally(client: &mut TcpStream, request: Request) -> std::io::Result<()> {
    let (_, key) = request.path[1..].split_once('/').unwrap();
    let done = bucket()
        .put(&Path::from_url_path(key).unwrap(), request.body.into())
        .await
        .unwrap();
    let tag = done.e_tag.unwrap();
    let text =
        format!("HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await
}
