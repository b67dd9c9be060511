//! The master key is replaced while the server runs.

use std::sync::Arc;

use portcullis::{app::App, error::Failure};
use portcullis_domain::keys::Kept;
use portcullis_store::{MasterKeys, OpenOptions, Store};
use reqwest::StatusCode;

use super::{kid, rotate};
use crate::support::{World, on_both};

on_both! {
    everything_goes_on_while_it_is_sealed_anew
    what_was_stopped_half_way_is_finished_by_running_it_again
    without_a_master_key_that_is_needed_the_server_does_not_start
}

/// Another process on the same database, with this ring of master keys.
async fn with_ring(world: &World, ring: &[u8]) -> Result<Arc<App>, Failure> {
    let text: String = ring.iter().map(|byte| MasterKeys::file_text(&[*byte; 32])).collect();
    let keys = Arc::new(MasterKeys::parse(&text).unwrap());
    let store = Store::open(&world.database, keys, &OpenOptions::default()).await;
    let store = store.map_err(|e| Failure::Internal(e.to_string()))?;
    App::start(store, world.clock.clone(), world.app.config.clone()).await
}

async fn everything_goes_on_while_it_is_sealed_anew(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let mark = world.last_record().await;
    let app = with_ring(&world, &[8, 7]).await.unwrap();
    let rewrapped = app.rewrap().await.unwrap();
    assert_eq!(rewrapped.done["signing keys"], 2);
    assert!(world.told_after(mark).await.iter().all(|r| r == "master_key.rewrap done"));
    assert!(!world.told_after(mark).await.is_empty());
    let needs: Vec<Kept> = rewrapped
        .needs
        .iter()
        .filter(|n| n.key_id == world.app.store.keys().current_id())
        .map(|n| n.kept)
        .collect();
    assert_eq!(needs, [Kept::ClientSecrets, Kept::AuditRecords], "digests, and nothing that is sealed");
    assert!(app.rewrap().await.unwrap().done.is_empty(), "there is nothing left to do");
    // The node that began before holds its keys, and gives tokens that others take.
    assert_eq!(kid(&program.token().await), kid(&token));
    assert!(app.active_token(&program.token().await).await.unwrap().is_some());
    let ring = with_ring(&world, &[7, 8]).await.unwrap();
    assert!(ring.active_token(&token).await.unwrap().is_some(), "whichever key is in front");
    assert!(app.store.verify_audit().await.unwrap().broken.is_none());
}

async fn what_was_stopped_half_way_is_finished_by_running_it_again(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    assert_eq!(rotate(&maria, "ES256", true).await.status(), StatusCode::OK);
    // The node that goes on with the old ring holds the keys by now.
    program.token().await;
    let app = with_ring(&world, &[8, 7]).await.unwrap();
    let mut act = app.store.act().await.unwrap();
    assert_eq!(act.rewrap(Kept::SigningKeys, 1, &|| world.clock.random()).await.unwrap(), 1);
    drop(act);
    let mut act = app.store.act().await.unwrap();
    assert_eq!(act.rewrap(Kept::PublicKeys, 2, &|| world.clock.random()).await.unwrap(), 2);
    let entry = portcullis_domain::audit::Entry::done(
        world.clock.now(),
        portcullis_domain::audit::By::Operator,
        &portcullis_domain::audit::Origin::default(),
        portcullis_domain::audit::Event::Rewrapped,
        "half",
    );
    act.commit(&[entry]).await.unwrap();
    drop(app);
    let half = with_ring(&world, &[7, 8]).await.unwrap();
    assert!(half.active_token(&program.token().await).await.unwrap().is_some(), "half-way everything works");
    let app = with_ring(&world, &[8, 7]).await.unwrap();
    let done = app.rewrap().await.unwrap().done;
    assert_eq!((done["signing keys"], done["public parts of signing keys"]), (2, 1));
    assert!(app.active_token(&program.token().await).await.unwrap().is_some());
    assert!(app.store.verify_audit().await.unwrap().broken.is_none());
}

async fn without_a_master_key_that_is_needed_the_server_does_not_start(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let app = with_ring(&world, &[8, 7]).await.unwrap();
    app.rewrap().await.unwrap();
    let Err(Failure::Internal(why)) = with_ring(&world, &[8]).await else { panic!("it started") };
    assert!(why.contains("is needed for 1 Client Secrets"), "{why}");
    world.sql("UPDATE credentials SET revoked_at = 1, revoked_reason = 'by_owner' WHERE revoked_at IS NULL").await;
    let alone = with_ring(&world, &[8]).await.unwrap();
    // Who presents the dead secret is not told from a stranger, and nothing breaks.
    let proof = portcullis::app::tokens::ClientProof {
        client_id: program.client_id.clone(),
        given: portcullis::app::tokens::Given::Secret(program.client_secret.clone().into()),
        origin: portcullis_domain::audit::Origin::default(),
    };
    let refused = alone.authenticate_client(proof).await.unwrap_err();
    assert!(matches!(refused, portcullis::app::tokens::ClientRefused::Unproven), "{refused:?}");
}
