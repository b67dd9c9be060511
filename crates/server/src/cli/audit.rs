//! `portcullis audit verify` (L-3).

use std::process::ExitCode;

use clap::Args;
use portcullis_store::ChainState;

use crate::cli::{Configuration, open};

/// The exit code for a broken log: not one that the argument parser uses.
const BROKEN: u8 = 3;

/// The flags of `portcullis audit verify`.
#[derive(Args)]
pub struct Verify {
    /// A head printed earlier, as NUMBER:HASH, that must still be in the chain
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<String>,
    #[command(flatten)]
    configuration: Configuration,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Verify {
    /// Verifies.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn run(self) -> Result<ExitCode, String> {
        let config = self.configuration.load()?;
        let store = open::existing(&config).await?;
        let noted = self.head.as_deref().map(parse_head).transpose()?;
        let ChainState { records, head, trimmed_to, broken } =
            store.verify_audit().await.map_err(|e| e.to_string())?;
        if let Some(broken) = broken {
            eprintln!("The audit log is BROKEN: {broken}.");
            return Ok(ExitCode::from(BROKEN));
        }
        if let Some((seq, _)) = noted.as_ref().filter(|(seq, _)| trimmed_to > 0 && *seq <= trimmed_to) {
            println!("Record {seq} was dropped by age, so the head cannot be compared. Keep the one below.");
        } else if let Some((seq, hash)) = noted {
            let found = store.audit_link(seq).await.map_err(|e| e.to_string())?;
            if found.as_deref().map(hex) != Some(hash) {
                eprintln!("The audit log is BROKEN: record {seq} is not the one that was noted.");
                return Ok(ExitCode::from(BROKEN));
            }
        }
        store.close().await;
        println!("The audit log is whole: {records} records follow each other.");
        if trimmed_to > 0 {
            println!("Records up to {trimmed_to} were dropped by age.");
        }
        println!("Head: {}:{}", head.seq, hex(&head.link));
        Ok(ExitCode::SUCCESS)
    }
}

fn parse_head(text: &str) -> Result<(i64, String), String> {
    let parsed = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_lowercase())));
    parsed.ok_or_else(|| "--head is to be given as NUMBER:HASH, as an earlier run printed it".to_owned())
}
