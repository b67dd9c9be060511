//! `portcullis keys`, beside a server that runs.

use super::{LINE, MARIA, PASSWORD, assert_refused};
use crate::support::process::Process;

/// The key ids in a state, as the list has them.
fn kids(process: &Process, state: &str) -> Vec<String> {
    let listed = process.run_here(&["keys", "list"], "");
    assert_eq!(listed.code, 0, "{listed:?}");
    let of_state = listed.out.lines().filter(|line| line.starts_with(state));
    of_state.map(|line| line.split_whitespace().nth(2).unwrap().to_owned()).collect()
}

fn key_set(process: &Process) -> String {
    let url = format!("{}/.well-known/jwks.json", process.url());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
}

#[test]
fn signing_keys_are_rotated_and_withdrawn_while_the_server_runs() {
    let mut process = Process::new(&[]);
    assert_refused(&process.run_here(&["keys", "list"], ""), &["there is no master key"]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let (active, upcoming) = (kids(&process, "active"), kids(&process, "upcoming"));
    assert_eq!((active.len(), upcoming.len()), (1, 1));
    let early = process.run_here(&["keys", "rotate"], "");
    assert_refused(&early, &["has not been published for long enough", "Rotate again from"]);
    let unused = process.run_here(&["keys", "rotate", "--algorithm", "EdDSA", "--now"], "");
    assert_refused(&unused, &["no API has selected it"]);
    assert_eq!(process.run_here(&["keys", "rotate", "--algorithm", "none"], "").code, 2);
    let rotated = process.run_here(&["keys", "rotate", "--now"], "");
    assert!(rotated.out.contains(&format!("{} signs from now on.", upcoming[0])), "{rotated:?}");
    assert_eq!(kids(&process, "active"), upcoming);
    assert_eq!(kids(&process, "retiring"), active);
    assert!(key_set(&process).contains(&kids(&process, "upcoming")[0]), "the server sees it at once");

    assert_eq!(process.run_here(&["keys", "withdraw", &active[0]], "").code, 2, "not without a reason");
    let unknown = process.run_here(&["keys", "withdraw", "nonsense", "--reason", "Lost"], "");
    assert_refused(&unknown, &["there is no such key"]);
    let withdrawn = process.run_here(&["keys", "withdraw", &active[0], "--reason", "Lost"], "");
    assert!(withdrawn.out.contains("is out of the key set"), "{withdrawn:?}");
    assert!(!key_set(&process).contains(&active[0]), "with the next request");
    assert_eq!(kids(&process, "withdrawn"), active);
    assert_refused(
        &process.run_here(&["keys", "withdraw", &active[0], "--reason", "Lost"], ""),
        &["not in the key set any more"],
    );
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0);
}

#[test]
fn with_the_settings_of_another_server_nothing_is_done_to_keys() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let refused = process.run_here(&["keys", "list", "--public-url", "http://127.0.0.1:1"], "");
    assert_refused(
        &refused,
        &["this is the database of a server whose API is", "the configuration of the server"],
    );
    assert_eq!(kids(&process, "active").len(), 1);
}

#[test]
fn a_new_master_key_takes_over_and_the_old_one_goes_when_nothing_needs_it() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let generate = ["credential", "generate", "--email", MARIA, "--password-stdin", "--server"];
    let url = process.url();
    let generate = || process.run(&[&generate[..], &[&url]].concat(), LINE);
    assert_eq!(generate().code, 0);
    let nothing = process.run_here(&["keys", "rewrap"], "");
    assert!(nothing.out.contains("Older ones can be dropped."), "{nothing:?}");

    let file = process.data("master.key");
    let old = std::fs::read_to_string(&file).unwrap();
    let new = "ab".repeat(32);
    std::fs::write(&file, format!("{new}\n{old}")).unwrap();
    let rewrapped = process.run_here(&["keys", "rewrap"], "");
    assert_eq!(rewrapped.code, 0, "{rewrapped:?}");
    for words in
        ["Sealed anew: 2 signing keys", "1 Client Secrets (until they are revoked", "audit records (to verify"]
    {
        assert!(rewrapped.out.contains(words), "{words}: {rewrapped:?}");
    }
    assert!(!rewrapped.out.contains(&new), "L-2");
    let again = process.run_here(&["keys", "rewrap"], "");
    assert!(again.out.contains("Everything that is sealed is sealed under the current master key"), "{again:?}");

    std::fs::write(&file, &new).unwrap();
    let refused = process.run_here(&["keys", "list"], "");
    assert_refused(&refused, &["is needed for 1 Client Secrets", "Bring it back"]);
    std::fs::write(&file, format!("{new}\n{old}")).unwrap();
    process.terminate();
    process.start();
    let revoke = ["credential", "revoke", "--email", MARIA, "--password-stdin", "--server", &url];
    assert_eq!(process.run(&revoke, LINE).code, 0);
    std::fs::write(&file, &new).unwrap();
    assert_eq!(process.run_here(&["keys", "list"], "").code, 0, "nothing needs the old one any more");
}
