//! What hostile peers make the real program keep in memory, as the kernel counts it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{FORM, process::Process};

/// Bad ones at the same time: as many open files as every system allows.
const PEERS: u32 = 400;
/// What one of them may cost, in KiB: the longest head or body, twice (as it came, and as it is read).
const EACH_KIB: u32 = 128;

/// The most memory that a process has had resident, in KiB.
fn peak_kib(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Sends up to a megabyte after the beginning, as far as it is taken, and stays until it is closed.
async fn fill(address: SocketAddr, beginning: String, more: Vec<u8>) {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all).await;
    });
    let _ = writer.write_all(beginning.as_bytes()).await;
    for _ in 0..1024 {
        if more.is_empty() || writer.write_all(&more).await.is_err() {
            break;
        }
    }
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_heads_and_bodies_without_an_end_fill_no_memory() {
    let mut process = Process::new(&["header_timeout_seconds=5", "request_timeout_seconds=5"]);
    process.start();
    let heads = ("GET / HTTP/1.1\r\nHost: x\r\nX: ".to_owned(), vec![b'x'; 1024]);
    let form = format!("POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n");
    let chunk = [&b"400\r\n"[..], &[b'x'; 0x400], b"\r\n"].concat();
    let bodies = (format!("{form}Transfer-Encoding: chunked\r\n\r\n"), chunk);
    // All but the last byte of what would be taken.
    let almost = (format!("{form}Content-Length: 65536\r\n\r\n{}", "x".repeat(65_535)), Vec::new());
    for (beginning, more) in [heads, bodies, almost] {
        let before = peak_kib(process.id());
        let mut peers = JoinSet::new();
        for _ in 0..PEERS {
            peers.spawn(fill(process.address, beginning.clone(), more.clone()));
        }
        peers.join_all().await;
        let grown = peak_kib(process.id()) - before;
        assert!(grown < PEERS * EACH_KIB, "{grown} KiB for {PEERS}: {beginning:.60}");
    }
    assert_eq!(process.terminate(), Some(0));
}
