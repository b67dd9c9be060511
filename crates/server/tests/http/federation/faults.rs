//! The provider slow, dead, wrong, huge: local sign-in and tokens are unaffected.

#![allow(clippy::disallowed_methods, reason = "how long somebody waits takes a clock")]

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use super::{Visitor, hostile::Documents, location, scene};
use crate::support::{PASSWORD, Program, World, on_both};

on_both! {
    documents_that_are_not_right_are_refused_and_bounded
    a_provider_that_hangs_holds_up_nobody_else
    a_provider_that_is_gone_is_said_to_be
}

async fn documents_that_are_not_right_are_refused_and_bounded(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let program = world.sign_in("maria@acme.example").await.generate().await;
    for documents in [
        Documents::OfAnotherIssuer,
        Documents::HugeKeys,
        Documents::RedirectLoop,
        Documents::NotJson,
        Documents::PlainHttpElsewhere,
    ] {
        // The documents of before are remembered for ten minutes.
        world.pass(jiff::SignedDuration::from_mins(11));
        hostile.now(|m| m.documents = documents);
        let mark = world.last_record().await;
        let response = Visitor::new(&world).post(&format!("/sign-in/provider/{id}"), &[]).await;
        assert_eq!(location(&response), "/sign-in?problem=provider_misconfigured");
        assert_eq!(world.told_after(mark).await, ["sign_in refused provider_misconfigured"]);
        assert!(!hostile.asked().contains(&"loop".to_owned()));
        assert_local_goes_on(&world, &program).await;
    }
    hostile.now(|m| m.documents = Documents::Right);
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/", "mended, it works at once");
}

/// Whatever the provider does, who has a password signs in and programs get tokens.
async fn assert_local_goes_on(world: &World, program: &Program) {
    let form = [("email", "maria@acme.example"), ("password", PASSWORD)];
    let local = Visitor::new(world).post("/sign-in", &form).await;
    assert_eq!(local.status(), StatusCode::SEE_OTHER, "local sign-in goes on");
    assert_eq!(program.ask().await.status(), StatusCode::OK, "and so do tokens");
}

async fn a_provider_that_hangs_holds_up_nobody_else(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let program = world.sign_in("maria@acme.example").await.generate().await;
    world.pass(jiff::SignedDuration::from_mins(11));
    hostile.now(|m| m.documents = Documents::Hang);
    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut browser = Visitor::new(&world);
        waiting.spawn(async move { location(&browser.post(&format!("/sign-in/provider/{id}"), &[]).await) });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = Instant::now();
    assert_local_goes_on(&world, &program).await;
    let page = Visitor::new(&world).get("/sign-in").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    let answers = waiting.join_all().await;
    let busy = answers.iter().filter(|a| *a == "/sign-in?problem=provider_busy").count();
    let gone = answers.iter().filter(|a| *a == "/sign-in?problem=provider_unreachable").count();
    assert_eq!((busy, gone), (12, 8), "eight wait, the others are told at once: {answers:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "bounded in time: {:?}", began.elapsed());
}

async fn a_provider_that_is_gone_is_said_to_be(world: World) {
    let (maria, _, id) = scene(&world).await;
    let program = world.sign_in("maria@acme.example").await.generate().await;
    world.pass(jiff::SignedDuration::from_mins(11));
    world.sql("UPDATE providers SET issuer = 'http://127.0.0.1:1'").await;
    let response = Visitor::new(&world).post(&format!("/sign-in/provider/{id}"), &[]).await;
    assert_eq!(location(&response), "/sign-in?problem=provider_unreachable");
    assert_local_goes_on(&world, &program).await;
    let maria = if maria.is_signed_in().await { maria } else { world.sign_in("maria@acme.example").await };
    let (_, page) = maria.page(&format!("/providers/{id}?done=changed")).await;
    assert!(page.contains("Saved, but nobody can sign in through it yet."), "{page}");
    let response = maria.post(&format!("/providers/{id}/test"), &[]).await;
    assert_eq!(location(&response), format!("/providers/{id}?problem=provider_unreachable"));
}
