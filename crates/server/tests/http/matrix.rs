//! Who can do what, as one table: how somebody signed in, what became of the account since, and
//! each thing that touches a credential. Every cell is asked for by hand-made requests (C-3, C-4,
//! C-7 to C-11).

use portcullis_domain::{
    accounts::{DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    audit::{By, Entry, Event, Origin},
    sessions::Opened,
};
use reqwest::{Method, StatusCode};

use crate::support::{Person, Program, World, json, on_both};

on_both! {
    c3_c4_c8_c9_c10_who_can_do_what_with_a_credential
}

/// How somebody signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    Local,
    LocalMfa,
    Federated,
    FederatedOnly,
}

/// What the account is, or became after the sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    SuperAdmin,
    Plain,
    Demoted,
    Inactive,
    Deleted,
}

/// What a row expects. Words are the codes of problems; `ok` is success.
struct Row {
    login: Login,
    account: Account,
    /// Generate, by somebody like this who has no credential.
    generate: &'static str,
    /// The Credentials tab: the page's status, and the same by the API.
    see: &'static str,
    /// Revoke one's own credential.
    revoke: &'static str,
    /// Revoke João's, who is another Super Admin.
    revoke_another_s: &'static str,
    /// Request a token with the credential: `ok`, or a word of the description.
    token: &'static str,
    /// Call the API with a token that was issued while all was well.
    call: &'static str,
    /// Whether that token is active for somebody who asks.
    active: bool,
}

/// Nobody like this has a credential, so nothing can be tried with one.
const NONE: &str = "none";
const OUT: &str = "not_signed_in";
const NOT: &str = "not_super_admin";

#[rustfmt::skip]
const TABLE: [Row; 20] = {
    use Account::{Deleted, Demoted, Inactive, Plain, SuperAdmin};
    use Login::{Federated, FederatedOnly, Local, LocalMfa};
    #[expect(clippy::too_many_arguments, reason = "a row of the table")]
    const fn row(
        login: Login, account: Account, generate: &'static str, see: &'static str, revoke: &'static str,
        revoke_another_s: &'static str, token: &'static str, call: &'static str, active: bool,
    ) -> Row {
        Row { login, account, generate, see, revoke, revoke_another_s, token, call, active }
    }
    [
        //  login          account     generate             see   revoke               another's    token             call             active
        row(Local,         SuperAdmin, "ok",                "ok", "ok",                "not_owner", "ok",             "ok",            true),
        row(Local,         Plain,      NOT,                 NOT,  NOT,                 NOT,         NONE,             NONE,            false),
        row(Local,         Demoted,    NOT,                 NOT,  NOT,                 NOT,         "not a Super",    "invalid_token", false),
        row(Local,         Inactive,   OUT,                 OUT,  OUT,                 OUT,         "not active",     "invalid_token", false),
        row(Local,         Deleted,    OUT,                 OUT,  OUT,                 OUT,         "was deleted",    "invalid_token", false),
        row(LocalMfa,      SuperAdmin, "mfa_on",            "ok", "ok",                "not_owner", "multi-factor",   "invalid_token", false),
        row(LocalMfa,      Plain,      NOT,                 NOT,  NOT,                 NOT,         NONE,             NONE,            false),
        row(LocalMfa,      Demoted,    NOT,                 NOT,  NOT,                 NOT,         "not a Super",    "invalid_token", false),
        row(LocalMfa,      Inactive,   OUT,                 OUT,  OUT,                 OUT,         "not active",     "invalid_token", false),
        row(LocalMfa,      Deleted,    OUT,                 OUT,  OUT,                 OUT,         "was deleted",    "invalid_token", false),
        row(Federated,     SuperAdmin, "federated_login",   "ok", "ok",                "not_owner", "ok",             "ok",            true),
        row(Federated,     Plain,      NOT,                 NOT,  NOT,                 NOT,         NONE,             NONE,            false),
        row(Federated,     Demoted,    NOT,                 NOT,  NOT,                 NOT,         "not a Super",    "invalid_token", false),
        row(Federated,     Inactive,   OUT,                 OUT,  OUT,                 OUT,         "not active",     "invalid_token", false),
        row(Federated,     Deleted,    OUT,                 OUT,  OUT,                 OUT,         "was deleted",    "invalid_token", false),
        row(FederatedOnly, SuperAdmin, "federated_login",   "ok", "nothing_to_revoke", "not_owner", NONE,             NONE,            false),
        row(FederatedOnly, Plain,      NOT,                 NOT,  NOT,                 NOT,         NONE,             NONE,            false),
        row(FederatedOnly, Demoted,    NOT,                 NOT,  NOT,                 NOT,         NONE,             NONE,            false),
        row(FederatedOnly, Inactive,   OUT,                 OUT,  OUT,                 OUT,         NONE,             NONE,            false),
        row(FederatedOnly, Deleted,    OUT,                 OUT,  OUT,                 OUT,         NONE,             NONE,            false),
    ]
};

/// Somebody of a row: signed in, and then become what the row says.
struct Somebody {
    person: Person,
    /// The credential, and a token from when all was well.
    credential: Option<(Program, String)>,
}

impl Row {
    fn has_password(&self) -> bool {
        self.login != Login::FederatedOnly
    }

    async fn somebody(&self, world: &World, name: &str, with_credential: bool) -> Somebody {
        let email = format!("{name}.{:?}.{:?}@acme.example", self.login, self.account).to_lowercase();
        let role = if self.account == Account::Plain { Role::User } else { Role::SuperAdmin };
        let user = if self.has_password() {
            world.user(&email, role).await
        } else {
            without_password(world, &email, role).await
        };
        let mut credential = None;
        if with_credential && self.has_password() && role == Role::SuperAdmin {
            let program = world.session_opened(&user, Opened::Password).await.generate().await;
            let token = program.token().await;
            credential = Some((program, token));
        }
        let opened = match self.login {
            Login::Local => Opened::Password,
            Login::LocalMfa => Opened::PasswordAndMfa,
            Login::Federated | Login::FederatedOnly => Opened::Provider,
        };
        let person = world.session_opened(&user, opened).await;
        let now = world.clock.now();
        world
            .change(&user, |standing| {
                if self.login == Login::LocalMfa {
                    standing.mfa_since = Some(now);
                }
                match self.account {
                    Account::SuperAdmin | Account::Plain => {}
                    Account::Demoted => standing.role = (Role::User, now),
                    Account::Inactive => standing.status = (Status::Inactive, now),
                    Account::Deleted => standing.status = (Status::Deleted, now),
                }
            })
            .await;
        Somebody { person, credential }
    }
}

/// An account as a provider's first sign-in makes it.
async fn without_password(world: &World, email: &str, role: Role) -> User {
    let now = world.clock.now();
    let user = User {
        id: UserId(world.clock.id()),
        email: Email::parse(email).unwrap(),
        name: DisplayName::parse("Ana Lima").unwrap(),
        language: Language::EnglishInternational,
        time_zone: TimeZoneName::utc(),
        standing: Standing {
            role: (role, now),
            status: (Status::Active, now),
            mfa_since: None,
            has_password: false,
        },
        created_at: now,
    };
    let mut act = world.app.store.act().await.unwrap();
    act.add_user(&user, None).await.unwrap();
    let entry = Entry::done(now, By::Server, &Origin::default(), Event::UserCreated, user.id.to_string());
    act.commit(&[entry]).await.unwrap();
    user
}

/// `ok`, or the code of the problem.
async fn told(response: reqwest::Response) -> String {
    if response.status().is_success() {
        return "ok".to_owned();
    }
    json(response).await["code"].as_str().unwrap().to_owned()
}

async fn api(person: &Person, method: Method, path: &str) -> String {
    told(person.request(method, path).send().await.unwrap()).await
}

/// The tab as a page says what the API says.
async fn see(person: &Person) -> String {
    let by_api = api(person, Method::GET, "/api/v1/users/me/credential").await;
    let (status, page) = person.page("/account/credentials").await;
    let by_page = match status {
        StatusCode::OK => "ok",
        StatusCode::FORBIDDEN => NOT,
        StatusCode::SEE_OTHER => OUT,
        other => panic!("{other}: {page}"),
    };
    // Without a credential the API has none to show; the page shows that there is none.
    assert_eq!(by_page, if by_api == "no_credential" { "ok" } else { &by_api });
    by_page.to_owned()
}

async fn token(program: &Program) -> String {
    let response = program.ask().await;
    if response.status() == StatusCode::OK {
        return "ok".to_owned();
    }
    let said = json(response).await;
    assert_eq!(said["error"], "invalid_client");
    said["error_description"].as_str().unwrap().to_owned()
}

async fn c3_c4_c8_c9_c10_who_can_do_what_with_a_credential(world: World) {
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let another_s = joao.generate().await;
    let asks = world.watcher().await;
    let joao_id = world.user_of("joao@acme.example").await.id;
    let mut cells = 0;
    for row in &TABLE {
        let name = format!("{:?} × {:?}", row.login, row.account);
        let bare = row.somebody(&world, "bare", false).await.person;
        let Somebody { person, credential } = row.somebody(&world, "holder", true).await;

        let generated = api(&bare, Method::POST, "/api/v1/users/me/credential/generate").await;
        assert_eq!(generated, row.generate, "{name}: generate");
        let by_page = bare.post("/account/credentials/generate", &[]).await;
        // Whoever just generated has one now.
        let again = if row.generate == "ok" { StatusCode::CONFLICT } else { StatusCode::FORBIDDEN };
        let again = if row.generate == OUT { StatusCode::UNAUTHORIZED } else { again };
        assert_eq!(by_page.status(), again, "{name}: generate by the page");
        assert!(!by_page.text().await.unwrap().contains("pcs_"), "{name}");

        assert_eq!(see(&person).await, row.see, "{name}: see");
        let path = format!("/api/v1/users/{joao_id}/credential/revoke");
        assert_eq!(api(&person, Method::POST, &path).await, row.revoke_another_s, "{name}: revoke another's");
        let by_page = person.post("/account/credentials/revoke", &[("client_id", &another_s.client_id)]).await;
        assert!(by_page.status().is_client_error(), "{name}: C-8 by the page: {}", by_page.status());
        assert_eq!(token(&another_s).await, "ok", "{name}: C-8: João's credential still works");

        assert_eq!(credential.is_none(), row.token == NONE, "{name}: the table and who has a credential");
        if let Some((program, good)) = &credential {
            let said = token(program).await;
            assert!(said == row.token || (row.token != "ok" && said.contains(row.token)), "{name}: token: {said}");
            let called = told(program.with(good, Method::GET, "/api/v1/me").send().await.unwrap()).await;
            assert_eq!(called, row.call, "{name}: use the token");
            assert_eq!(asks.is_active(good).await, row.active, "{name}: introspect");
        }

        assert_eq!(
            api(&person, Method::POST, "/api/v1/users/me/credential/revoke").await,
            row.revoke,
            "{name}: revoke"
        );
        if let (Some((program, good)), "ok") = (&credential, row.revoke) {
            assert!(token(program).await.contains("revoked by its owner"), "{name}: C-7");
            assert!(!asks.is_active(good).await, "{name}: C-11");
        }
        cells += 7;
    }
    assert_eq!(cells, 4 * 5 * 7);
    world.log_is_whole().await;
}
