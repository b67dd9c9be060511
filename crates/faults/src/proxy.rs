//! A TCP proxy between a server and its PostgreSQL that can break the connections: cut them, hold them,
//! swallow what is sent, or cut one between a `COMMIT` and its answer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// `COMMIT` as a simple query (PostgreSQL protocol 3.0, message `Query`): its length, its text.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// What happens to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// It waits.
    Stall,
    /// It is taken and never arrives.
    BlackHole,
    /// Of so many commits one is carried out, and its connection cut before the answer arrives.
    CutAtCommit(u64),
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
    commits: AtomicU64,
    commits_cut: AtomicU64,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The port on loopback where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of a port on loopback.
    ///
    /// # Errors
    /// When the machine gives it no port.
    pub async fn start(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            target: Mutex::new((Ipv4Addr::LOCALHOST, target).into()),
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            commits: AtomicU64::new(0),
            commits_cut: AtomicU64::new(0),
        });
        let inner = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&inner).carry(client));
            }
        });
        Ok(Self { port, shared, task })
    }

    /// Sends new connections to another port on loopback.
    pub fn lead_to(&self, target: u16) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = (Ipv4Addr::LOCALHOST, target).into();
    }

    /// Changes what happens to what passes.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Cuts all connections that there are.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|n| *n += 1);
    }

    /// How many commits were carried out without an answer.
    #[must_use]
    pub fn commits_cut(&self) -> u64 {
        self.shared.commits_cut.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Carries one connection until either end closes it, or it is cut.
    async fn carry(self: Arc<Self>, client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        tokio::select! {
            // However it ends, both ends are closed then.
            _ = self.pump(client) => {}
            _ = cuts.changed() => {}
        }
    }

    async fn pump(&self, mut client: TcpStream) -> std::io::Result<()> {
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let mut server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut asked, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if !self.passes().await {
                        continue;
                    }
                    server.write_all(&asked[..read]).await?;
                    if self.is_to_be_cut(&asked[..read]) {
                        // The answer says that it was carried out; it goes no further.
                        let _ = timeout(Duration::from_secs(5), server.read(&mut said)).await;
                        self.commits_cut.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
                read = server.read(&mut said) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if self.passes().await {
                        client.write_all(&said[..read]).await?;
                    }
                }
            }
        }
    }

    /// Waits while everything waits, and says whether it goes on then.
    async fn passes(&self) -> bool {
        let mut mode = self.mode.subscribe();
        match mode.wait_for(|mode| *mode != Mode::Stall).await {
            Ok(mode) => *mode != Mode::BlackHole,
            Err(_) => false,
        }
    }

    fn is_to_be_cut(&self, asked: &[u8]) -> bool {
        let Mode::CutAtCommit(of) = *self.mode.borrow() else { return false };
        asked.windows(COMMIT.len()).any(|w| w == COMMIT)
            && self.commits.fetch_add(1, Ordering::Relaxed).is_multiple_of(of.max(1))
    }
}
