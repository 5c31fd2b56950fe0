//! A network between a sink and the server that cuts a connection around a COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::Place;

/// What happens to the first COMMIT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cut {
    /// Nothing.
    Never,
    /// The server never sees it.
    Request,
    /// The server does it, and its answer is lost.
    Answer,
}

/// The network. It ends with its test's runtime.
pub(super) struct Wire {
    place: Place,
    cuts: Arc<AtomicU32>,
}

impl Wire {
    pub(super) async fn at(host: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let place = Place {
            host: host.to_owned(),
            port,
            tls: false,
        };
        let cuts = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&cuts);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let cuts = Arc::clone(&shared);
                // A broken connection is what this is about.
                tokio::spawn(async move { pass(client, cut, &cuts).await.ok() });
            }
        });
        Self { place, cuts }
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Connections that were cut.
    pub(super) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, cut: Cut, cuts: &AtomicU32) -> std::io::Result<()> {
    let Place { host, port, .. } = Place::bed();
    let mut server = TcpStream::connect((host, port)).await?;
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let sent = &up[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                let commits = sent.windows(7).any(|w| w == b"COMMIT\0");
                let due = commits && cut != Cut::Never && cuts.fetch_add(1, Ordering::SeqCst) == 0;
                if due && cut == Cut::Request {
                    return Ok(());
                }
                server.write_all(sent).await?;
                if due {
                    // It has answered: so it is done.
                    server.read_u8().await?;
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let answered = &down[..read?];
                if answered.is_empty() {
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}
