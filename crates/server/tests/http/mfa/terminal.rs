//! An owner with MFA at the terminal: looks at the credential, and revokes it (C-9, C-12).

use super::{on_both_named, tab::Tab};
use crate::support::{
    PASSWORD, World,
    process::{Answered, Process},
};

on_both_named! {
    c9_an_owner_with_mfa_shows_and_revokes_from_a_terminal
}

async fn run(world: &World, act: &'static str, code: Option<&str>) -> Answered {
    let url = world.url.clone();
    let input = format!("{PASSWORD}\n{}\n", code.unwrap_or_default());
    let mut flags = vec!["--password-stdin"];
    flags.extend(code.map(|_| "--code-stdin"));
    let asked = tokio::task::spawn_blocking(move || {
        let args = ["credential", act, "--server", &url, "--email", "maria@acme.example"];
        Process::new(&[]).run(&[&args[..], &flags].concat(), &input)
    });
    asked.await.unwrap()
}

async fn c9_an_owner_with_mfa_shows_and_revokes_from_a_terminal(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (phone, codes) = Tab::of(&world, &maria).set_up_app(&world).await;
    let refused = run(&world, "show", None).await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert!(refused.err.contains("--code-stdin"), "{refused:?}");
    let wrong = run(&world, "show", Some(&phone.wrong(&world))).await;
    assert!(wrong.code == 1 && wrong.err.contains("This is not right"), "{wrong:?}");
    let shown = run(&world, "show", Some(&phone.code(&world))).await;
    assert!(shown.code == 0 && shown.out.contains("suspended (mfa_on)"), "{shown:?}");
    assert!(shown.out.contains(&program.client_id));
    let generated = run(&world, "generate", Some(&codes[0])).await;
    assert!(generated.code == 1 && generated.err.contains("Turn MFA off"), "{generated:?}");
    let revoked = run(&world, "revoke", Some(&codes[1])).await;
    assert_eq!((revoked.code, revoked.err.as_str()), (0, ""), "{revoked:?}");
    assert_eq!(revoked.out, format!("{} is revoked. Its programs have stopped.\n", program.client_id));
}
