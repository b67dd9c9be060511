//! Users: from the invitation to the first request after a deactivation; a forgotten password; the
//! outbox; and every mail as its reader sees it.

use jiff::{SignedDuration, Timestamp};
use portcullis::{
    app::letters::{CredentialChange, Factor, FactorsChange, Letter},
    console::view::Dates,
};
use portcullis_domain::{
    accounts::{DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    audit::Origin,
    credentials::{RevocationReason, Suspension},
};
use uuid::Uuid;

use crate::{
    browser::Browser,
    support::{PASSWORD, Person, World},
};

mod acts;

const ANA: &str = "ana@acme.example";

async fn acme() -> World {
    World::sqlite(&[("organization", "Acme Logistics")]).await
}

async fn open(world: &World, person: &Person) -> Browser {
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&person.cookie).await;
    browser
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_invitation_to_the_deactivation() {
    let world = acme().await;
    let maria = world.maria().await;
    let browser = open(&world, &maria).await;
    browser.go("/").await;
    browser.press("Users").await;
    browser.at("/users").await;
    browser.look("users").await;
    browser.press("Invite a user").await;
    browser.look("user-invite").await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.press("Send the invitation").await;
    browser.says("There is an account with this e-mail address already.").await;
    assert_eq!(browser.focused().await, "email");
    browser.look("user-invite-taken").await;
    browser.type_in("#email", ANA).await;
    browser.press("Send the invitation").await;
    browser.says("No mail server is set up, so nothing was sent.").await;
    browser.look("user-invited").await;
    let link = world.mail_to(ANA, 1).await.link("/activate/");
    assert_eq!(browser.text_of("#link").await, format!("{}{link}", world.url));
    browser.press("Open the user").await;
    browser.says("Pending activation").await;
    browser.look("user-pending").await;
    browser.press("Invite again").await;
    browser.look("user-invite-again").await;
    browser.press("Cancel").await;

    let other = activated(&world, &link).await;
    let id = world.user_of(ANA).await.id;
    browser.go(&format!("/users/{id}")).await;
    browser.press("Give Super Admin").await;
    browser.says("Make Ana Lima a Super Admin?").await;
    browser.press("Give Super Admin").await;
    browser.says("The user is a Super Admin now.").await;
    other.go("/account/credentials").await;
    other.press("Generate Credentials").await;
    other.says("Copy the Client Secret now.").await;
    browser.press("Deactivate").await;
    browser.says("is suspended while its owner's account is not active").await;
    browser.look("user-deactivate").await;
    browser.press("Deactivate").await;
    browser.says("The user has been deactivated and signed out everywhere.").await;
    browser.look("user-deactivated").await;
    other.go("/account/credentials").await;
    other.at("/sign-in?next=/account/credentials").await;
    browser.press("Delete").await;
    browser.look("user-delete").await;
    browser.press("Delete").await;
    browser.at("/users").await;
    other.close().await;
    browser.close().await;
}

/// Ana activates the account with the link and signs in, in a browser of her own.
async fn activated(world: &World, link: &str) -> Browser {
    let other = Browser::open(&world.url).await;
    other.go(link).await;
    other.says("Activate your account").await;
    other.look("activate").await;
    other.type_in("#name", "Ana Lima").await;
    other.type_in("#password", "too short").await;
    other.press("Activate the account").await;
    other.find("#password-error").await;
    assert_eq!(other.value_of("#name").await, "Ana Lima");
    other.look("activate-errors").await;
    other.type_in("#password", PASSWORD).await;
    other.press("Activate the account").await;
    other.says("Your account is ready. Sign in with it.").await;
    other.type_in("#email", ANA).await;
    other.type_in("#password", PASSWORD).await;
    other.press("Sign in").await;
    other.says("Welcome, Ana Lima").await;
    assert_eq!(other.text_of(".side").await, "Overview", "a plain user");
    other.go(link).await;
    other.says("This link was used already").await;
    other.look("link-used").await;
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password() {
    let world = acme().await;
    world.user("maria@acme.example", Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    browser.go("/sign-in").await;
    browser.look("sign-in-forgot").await;
    browser.press("Forgot your password?").await;
    browser.look("forgot-password").await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.press("Send me a link").await;
    browser.says("Look into your mailbox.").await;
    browser.look("forgot-password-asked").await;
    let link = world.mail_to("maria@acme.example", 1).await.link("/reset-password/");
    browser.go(&link).await;
    browser.says("Choose a new password").await;
    browser.look("reset-password").await;
    browser.type_in("#password", "passwordpassword").await;
    browser.press("Change password").await;
    browser.find("#password-error").await;
    browser.look("reset-password-errors").await;
    browser.type_in("#password", "violet harbor mosaic thunder").await;
    browser.press("Change password").await;
    browser.says("Your password has been changed. Sign in with it.").await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.type_in("#password", "violet harbor mosaic thunder").await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.go(&link).await;
    browser.says("This link was used already").await;
    browser.press("Ask for a new link").await;
    browser.at("/forgot-password").await;
    browser.go("/activate/not-a-token").await;
    browser.says("This link is not valid").await;
    browser.look("link-unknown").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_users_and_an_outbox_in_every_state() {
    let world = acme().await;
    let maria = world.maria().await;
    for (n, status) in [Status::Inactive, Status::Pending, Status::Active].into_iter().enumerate() {
        let email = format!("{}{n}@{}.example", "paulo".repeat(10), "acme".repeat(14));
        let user = world.user(&email, Role::User).await;
        world
            .change(&user, |s| {
                s.status.0 = status;
                s.mfa_since = (n == 2).then(|| world.clock.now());
            })
            .await;
    }
    for n in 0..60 {
        maria.post("/users/invite", &[("email", &format!("guest{n:02}@acme.example"))]).await;
    }
    world.mails().await;
    let browser = open(&world, &maria).await;
    browser.go("/users").await;
    browser.look("users-many").await;
    browser.press("Next page").await;
    browser.says("First page").await;
    browser.look("users-last-page").await;
    browser.type_in("#search", "nobody like that").await;
    browser.press("Search").await;
    browser.says("No user matches.").await;
    browser.look("users-none").await;
    // A folder that became a file: mails wait and say why.
    let folder = world.app.config.data_dir.join("mail");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "x").unwrap();
    world.pass(SignedDuration::from_secs(1));
    maria.post("/users/invite", &[("email", ANA)]).await;
    world.app.send_due_mails().await.unwrap();
    world.sql("UPDATE mails SET sent_at = NULL, next_try_at = NULL, tries = 9, problem = '550 no such mailbox' WHERE recipient = 'guest00@acme.example'").await;
    browser.go("/mail").await;
    browser.says("Next try").await;
    browser.look("mail").await;
    std::fs::remove_file(&folder).unwrap();
    browser.press("Try again to send Invitation to ana@acme.example").await;
    browser.says("The mail is being tried again.").await;
    browser.look("mail-again").await;
    let id = world.user_of(&format!("{}2@{}.example", "paulo".repeat(10), "acme".repeat(14))).await.id;
    browser.go(&format!("/users/{id}")).await;
    browser.look("user-with-mfa").await;
    browser.press("Turn MFA off").await;
    browser.look("user-turn-mfa-off").await;
    browser.close().await;
}

/// Whom the mails are for.
fn joao(at: Timestamp) -> User {
    User {
        id: UserId(Uuid::nil()),
        email: Email::parse("joao@acme.example").unwrap(),
        name: DisplayName::parse("João Pereira").unwrap(),
        language: Language::EnglishInternational,
        time_zone: TimeZoneName::parse("Europe/Lisbon").unwrap(),
        standing: Standing {
            role: (Role::User, at),
            status: (Status::Active, at),
            mfa_since: None,
            has_password: true,
        },
        created_at: at,
    }
}

/// What may become of the ways in of a credential.
fn credential_changes() -> [CredentialChange; 5] {
    let thumbprint = || "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".to_owned();
    let bound =
        |replaced, with_secret| CredentialChange::KeyBound { thumbprint: thumbprint(), replaced, with_secret };
    [
        bound(true, false),
        bound(false, true),
        CredentialChange::KeyRemoved { thumbprint: thumbprint() },
        CredentialChange::SecretOff,
        CredentialChange::SecretOn,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mail_can_be_read() {
    let at: Timestamp = "2026-11-18T11:06:40Z".parse().unwrap();
    let origin = Origin::new("203.0.113.9".to_owned(), "Firefox/140 on Linux");
    let (origin, client_id) = (&origin, "pcc_4k2pz2n8q901mev0pp5f");
    let providers = ["Acme ID".to_owned(), "Example Login".to_owned()];
    let link = "https://access.acme.example/activate/Zm9yLXRoZS1waWN0dXJlLW9ubHktbm90LWEtdG9rZW4";
    let changes = credential_changes();
    let changed = |what| Letter::CredentialChanged { client_id, what, origin, at };
    let factors = |what| Letter::FactorsChanged { what, origin, at };
    let letters = [
        Letter::Invitation { by: "Maria Rocha", link, until: at },
        Letter::PasswordReset { link, until: at, origin },
        Letter::NoPassword { providers: &providers, origin },
        Letter::NoPassword { providers: &[], origin },
        Letter::PasswordChanged { origin, at },
        Letter::CredentialGenerated { client_id, expires: at, origin },
        Letter::CredentialRevoked { client_id, why: RevocationReason::ByOwner },
        Letter::CredentialRevoked { client_id, why: RevocationReason::OwnerDeleted },
        Letter::CredentialSuspended { client_id, why: Suspension::MfaOn },
        Letter::CredentialSuspended { client_id, why: Suspension::OwnerInactive },
        Letter::CredentialSuspended { client_id, why: Suspension::OwnerNotSuperAdmin },
        Letter::CredentialResumed { client_id },
        Letter::CredentialExpires { client_id, at, days: 7 },
        Letter::CredentialExpires { client_id, at, days: 1 },
        Letter::MfaDisabled { by: "Maria Rocha" },
        factors(FactorsChange::TurnedOn(Factor::App)),
        factors(FactorsChange::Added(Factor::Passkey("Laptop"))),
        factors(FactorsChange::Removed(Factor::App)),
        factors(FactorsChange::Removed(Factor::Passkey("Laptop"))),
        factors(FactorsChange::RemovedLast(Factor::App)),
        factors(FactorsChange::RemovedLast(Factor::Passkey("Laptop"))),
        factors(FactorsChange::TurnedOff),
        factors(FactorsChange::NewCodes),
        factors(FactorsChange::PasskeyAlone(true)),
        factors(FactorsChange::PasskeyAlone(false)),
        Letter::NewDevice { origin, at },
    ];
    let mut to = joao(at);
    let dates = Dates::new(at, to.language, &to.time_zone);
    let message = |letter: &Letter<'_>, to: &User| {
        letter.message(to, &dates, "https://access.acme.example", "Acme Logistics").unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let browser = Browser::open(&format!("file://{}", folder.path().display())).await;
    let changed: Vec<Letter<'_>> = changes.iter().map(changed).collect();
    for (n, letter) in letters.iter().chain(&changed).enumerate() {
        let mail = message(letter, &to);
        let name = format!("mail-{n:02}-{}", mail.kind.code());
        std::fs::write(folder.path().join(format!("{name}.html")), &mail.html).unwrap();
        browser.go(&format!("/{name}.html")).await;
        browser.says("João Pereira").await;
        browser.look(&name).await;
    }
    let new_device = Letter::NewDevice { origin, at };
    assert!(message(&new_device, &to).text.contains("change your password"));
    to.standing.has_password = false;
    assert!(!message(&new_device, &to).text.contains("password"), "there is none to change");
    browser.close().await;
}
