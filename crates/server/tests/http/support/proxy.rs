//! A way to PostgreSQL that can be broken: without a word, or between COMMIT and its answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The advisory lock that every act begins with (`tx.rs`).
pub const ACT: [u8; 12] = *b"(1346587649)";
/// The one that issuing tokens begins with.
pub const TOKENS: [u8; 12] = *b"(1346587650)";

/// When the connection of a transaction is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// COMMIT never gets there.
    Before,
    /// COMMIT is done, and its answer does not come back.
    After,
}

pub struct Proxy {
    shared: Arc<Shared>,
    /// The URL of the database, through here.
    pub url: String,
}

struct Shared {
    target: SocketAddr,
    /// Odd while what comes in goes nowhere. A connection belongs to the number it began at: what a hole
    /// has swallowed never speaks again.
    holes: AtomicU64,
    /// The next transaction that takes this lock is cut.
    cut: Mutex<Option<([u8; 12], Moment)>>,
}

impl Proxy {
    /// Stands before the database of this URL.
    pub async fn before(url: &str) -> Self {
        let (head, rest) = url.split_once('@').unwrap();
        let (target, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{head}@{}/{name}", listener.local_addr().unwrap());
        let target = target.parse().unwrap();
        let shared = Arc::new(Shared { target, holes: AtomicU64::new(0), cut: Mutex::new(None) });
        let known = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&known).carry(client));
            }
        });
        Self { shared, url }
    }

    /// From now on nothing comes through, and nothing is said about it.
    pub fn swallow(&self) {
        assert_eq!(self.shared.holes.fetch_add(1, Ordering::SeqCst) % 2, 0);
    }

    /// New connections come through again.
    pub fn let_through(&self) {
        assert_eq!(self.shared.holes.fetch_add(1, Ordering::SeqCst) % 2, 1);
    }

    /// Cuts the next transaction that takes this lock.
    pub fn cut(&self, lock: [u8; 12], moment: Moment) {
        *self.shared.cut.lock().unwrap() = Some((lock, moment));
    }

    /// Whether that has happened.
    pub fn has_cut(&self) -> bool {
        self.shared.cut.lock().unwrap().is_none()
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

impl Shared {
    async fn carry(self: Arc<Self>, mut client: TcpStream) {
        let born = self.holes.load(Ordering::SeqCst);
        let comes_through = || born.is_multiple_of(2) && self.holes.load(Ordering::SeqCst) == born;
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut server = TcpStream::connect(self.target).await.unwrap();
        let mut locks: Vec<[u8; 12]> = Vec::new();
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(n @ 1..) = read else { return };
                    if !comes_through() { continue; }
                    locks.extend([ACT, TOKENS].into_iter().filter(|lock| holds(&up[..n], lock)));
                    if holds(&up[..n], b"COMMIT\0") {
                        let wanted = *self.cut.lock().unwrap();
                        if let Some((_, moment)) = wanted.filter(|(lock, _)| locks.contains(lock)) {
                            if moment == Moment::After {
                                server.write_all(&up[..n]).await.unwrap();
                                assert!(server.read(&mut down).await.unwrap() > 0, "the answer that is lost");
                            }
                            *self.cut.lock().unwrap() = None;
                            return;
                        }
                        locks.clear();
                    }
                    if server.write_all(&up[..n]).await.is_err() { return; }
                }
                read = server.read(&mut down) => {
                    let Ok(n @ 1..) = read else {
                        // The word that it ends does not come through either.
                        while !comes_through() && matches!(client.read(&mut up).await, Ok(1..)) {}
                        return;
                    };
                    if comes_through() && client.write_all(&down[..n]).await.is_err() { return; }
                }
            }
        }
    }
}
