//! A history that was kept is looked at again with one command, and its exit code says what it is.

use std::{path::Path, process::Command};

use portcullis_faults::{
    check::Window,
    history::{Call, Operation, Outcome},
    register::Start,
};

const ID: &str = "pcc_00000000000000000001";

/// Generated, revoked, and then asked for.
fn window(told: Outcome) -> Window {
    let call = |called, operation, outcome| Call {
        client: 1,
        user: "ana@acme.example".to_owned(),
        node: "a".to_owned(),
        operation,
        called,
        returned: called + 5,
        outcome,
    };
    let calls = vec![
        call(0, Operation::Generate, Outcome::Generated(ID.to_owned())),
        call(10, Operation::Revoke, Outcome::Revoked(ID.to_owned())),
        call(20, Operation::Introspect(ID.to_owned()), told),
    ];
    Window { start: Start { held: None, refusals_fit: false }, calls }
}

fn checked(file: &Path) -> std::io::Result<(Option<i32>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_faults")).arg("check").arg(file).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_kept_history_is_shown_again_with_the_answer_that_is_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("window.json");
    window(Outcome::Inactive).keep(&file).unwrap();
    assert_eq!(checked(&file).unwrap().0, Some(0));
    window(Outcome::Active).keep(&file).unwrap();
    let (code, said) = checked(&file).unwrap();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("fit into no order: Introspect"), "{said}");
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(checked(&file).unwrap().0, Some(1), "what is no history is not called good");
}
