//! C-11: from the moment a revocation or suspension is acknowledged, nothing of it is good any
//! more, on any node, however many requests are under way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use portcullis_domain::accounts::Role;
use reqwest::StatusCode;

use crate::support::{Program, World, json, on_both};

on_both! {
    c11_nothing_that_begins_after_the_acknowledgement_succeeds_on_any_node
}

const SEQUENCES: usize = 100;

/// Asks for tokens until one request has begun after the acknowledgement; gives all it got.
async fn keeps_asking(program: Program, acknowledged: Arc<AtomicBool>) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let began_after = acknowledged.load(Ordering::SeqCst);
        let response = program.ask().await;
        let status = response.status();
        if status == StatusCode::OK {
            assert!(!began_after, "C-11: a token was issued to a request that began after");
            got.push(json(response).await["access_token"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        if began_after {
            return got;
        }
    }
}

/// Introspects and uses a token until it did so once after the acknowledgement.
async fn keeps_looking(witness: Program, token: String, acknowledged: Arc<AtomicBool>) {
    loop {
        let began_after = acknowledged.load(Ordering::SeqCst);
        let active = witness.is_active(&token).await;
        let me = witness.with(&token, reqwest::Method::GET, "/api/v1/me").send().await.unwrap().status();
        if began_after {
            assert!(!active, "C-11: introspection that began after says active");
            assert_eq!(me, StatusCode::UNAUTHORIZED);
            return;
        }
    }
}

async fn c11_nothing_that_begins_after_the_acknowledgement_succeeds_on_any_node(world: World) {
    let other = world.another_node().await;
    let witness = world.watcher().await;
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let maria = world.sign_in("maria@acme.example").await;
    let mut program = maria.generate().await;
    let mut issued_before = 0;
    for sequence in 0..SEQUENCES {
        let revokes = sequence % 2 == 0;
        let acknowledged = Arc::new(AtomicBool::new(false));
        let token = program.token().await;
        let (mut asking, mut looking) = (Vec::new(), Vec::new());
        for node in [&world, &other] {
            for _ in 0..2 {
                asking.push(tokio::spawn(keeps_asking(program.at(node), Arc::clone(&acknowledged))));
                let looks = keeps_looking(witness.at(node), token.clone(), Arc::clone(&acknowledged));
                looking.push(tokio::spawn(looks));
            }
        }
        if revokes {
            assert_eq!(maria.revoke().await.status(), StatusCode::OK);
        } else {
            world.set_standing(user.id, |standing, now| standing.mfa_since = Some(now)).await;
        }
        acknowledged.store(true, Ordering::SeqCst);
        for task in looking {
            task.await.unwrap();
        }
        for task in asking {
            for token in task.await.unwrap() {
                issued_before += 1;
                assert!(!witness.at(&other).is_active(&token).await, "issued just before, and over with the rest");
            }
        }
        if revokes {
            program = maria.generate().await;
        } else {
            world.set_standing(user.id, |standing, _| standing.mfa_since = None).await;
        }
    }
    assert!(issued_before > 0, "the requests and the acts never met");
}
