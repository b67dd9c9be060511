//! What the templates promise, whatever they look like.

use super::*;
use jiff::Timestamp;
use portcullis_domain::{accounts::TimeZoneName, credentials::Suspension, secret::ClientSecret};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn when(text: &str) -> When {
    When::new(at(text), at("2026-11-23T14:14:00Z"), Language::EnglishInternational, &TimeZoneName::utc())
}

fn frame(is_super_admin: bool) -> Frame {
    Frame {
        title: "Credentials".to_owned(),
        user_name: "<img src=x onerror=alert(1)>".to_owned(),
        user_email: "maria@acme.example".to_owned(),
        role_label: "Super Admin",
        is_super_admin,
        organisation: "Acme & Sons".to_owned(),
        language: Language::EnglishInternational,
        nav: Nav::Account,
    }
}

fn page(state: CredentialState, confirm_revoke: bool) -> String {
    AccountCredentials { frame: frame(true), tab: Tab::Credentials, notice: None, state, confirm_revoke }
        .render()
        .unwrap()
}

fn held(tokens_valid: u64) -> Held {
    Held {
        key: None,
        key_fixed: None,
        secret_off: None,
        client_id: "pcc_01k9v7m2q8e5t4w0z3r6".to_owned(),
        generated: when("2026-11-23T14:02:00Z"),
        expires: when("2036-11-20T14:02:00Z"),
        last_used: None,
        tokens_valid,
        tokens_more: false,
        last_token_ends: None,
    }
}

fn allowed() -> Generate {
    Generate::Allowed { password_needed: false, password_error: None }
}

fn empty(generate: Generate) -> String {
    page(CredentialState::Empty { token_lasts: lasts(86_400), generate }, false)
}

fn suspended(why: Suspension) -> String {
    page(CredentialState::Suspended { held: held(0), why, since: when("2026-11-23T14:03:00Z") }, false)
}

fn every_state() -> Vec<String> {
    vec![
        empty(allowed()),
        empty(Generate::Federated { provider: "Acme <SSO>".to_owned(), has_password: true }),
        empty(Generate::MfaOn),
        page(CredentialState::Active(held(3)), true),
        suspended(Suspension::MfaOn),
        suspended(Suspension::OwnerInactive),
        suspended(Suspension::OwnerNotSuperAdmin),
    ]
}

#[test]
fn no_page_has_inline_style_or_script_or_unescaped_text() {
    for html in every_state() {
        for bad in [" style=", "<style", "javascript:", "data:", "<img", "<SSO>"] {
            assert!(!html.contains(bad), "{bad} in {html}");
        }
        assert_eq!(html.matches("<script").count(), 1, "the module and nothing else");
        assert!(html.contains("<script type=\"module\" src=\"/assets/console.js\"></script>"));
    }
}

#[test]
fn every_id_on_a_page_is_unique() {
    for html in every_state() {
        let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
    }
}

#[test]
fn c3_only_a_super_admin_sees_the_credentials_tab_and_the_audit_log() {
    let help = |is_super_admin| {
        Help { frame: frame(is_super_admin), token_url: String::new(), token_lasts: lasts(60) }.render().unwrap()
    };
    assert!(help(true).contains("href=\"/audit\"") && help(true).contains("href=\"/account/credentials\""));
    assert!(!help(false).contains("href=\"/audit\"") && !help(false).contains("href=\"/account/credentials\""));
}

#[test]
fn c4_c9_generating_that_is_refused_has_no_button_but_a_reason() {
    assert!(empty(allowed()).contains(">Generate Credentials</button>"));
    for (refused, reason) in [
        (
            Generate::Federated { provider: "Acme SSO".to_owned(), has_password: true },
            "You signed in with Acme SSO.",
        ),
        (Generate::MfaOn, "do not work for accounts with MFA"),
        (Generate::NoLocalPassword, "no Portcullis password"),
    ] {
        let html = empty(refused);
        assert!(html.contains(reason), "{reason}");
        assert!(!html.contains("Generate Credentials"), "{reason}");
    }
}

#[test]
fn c5_the_secret_is_on_the_page_that_generated_it_once() {
    let secret = ClientSecret::new([9; 32]);
    let text = secret.expose().to_owned();
    let html = page(
        CredentialState::Shown {
            client_id: "pcc_01k9v7m2q8e5t4w0z3r6".to_owned(),
            client_secret: secret,
            token_url: "https://access.acme.example/oauth/token".to_owned(),
            expires: when("2036-11-20T14:02:00Z"),
        },
        false,
    );
    assert_eq!(html.matches(&text).count(), 1);
    assert!(html.contains("data-secret"), "wiped when the page is left");
}

#[test]
fn c7_the_confirmation_says_what_stops_and_is_there_without_a_script() {
    let html = page(CredentialState::Active(held(3)), true);
    assert!(html.contains("<dialog class=\"dialog\" id=\"revoke\"") && html.contains(" open>"));
    assert!(html.contains("<div class=\"page\" inert>"));
    assert!(html.contains("the 3 tokens that are valid now stop working"));
    assert!(html.contains("name=\"client_id\" value=\"pcc_01k9v7m2q8e5t4w0z3r6\""));
    assert!(html.contains(">Remove</button>"));
    let closed = page(CredentialState::Active(held(1)), false);
    assert!(!closed.contains(" inert") && closed.contains("the token that is valid now stops working"));
    assert!(closed.contains("href=\"/account/credentials/revoke\""));
}

#[test]
fn c9_a_suspended_credential_says_why_and_can_be_revoked() {
    let html = suspended(Suspension::MfaOn);
    assert!(html.contains("Suspended while multi-factor authentication is on."));
    assert!(html.contains("nothing has been deleted") && html.contains("Revoke Credentials"));
}

#[test]
fn a_refused_sign_in_keeps_the_address_and_never_the_password() {
    let html = SignIn {
        email: "maria@acme.example".to_owned(),
        error: Some("The e-mail or the password is wrong.".to_owned()),
        next: Some("/audit?a=\"b".to_owned()),
        ..SignIn::default()
    }
    .render()
    .unwrap();
    assert!(html.contains("value=\"maria@acme.example\"") && html.contains("role=\"alert\""));
    assert!(!html.contains("a=\"b"), "the way back is escaped");
}

#[test]
fn initials_are_the_first_letters_of_the_first_and_last_word() {
    let initials = |name: &str| Frame { user_name: name.to_owned(), ..frame(true) }.initials();
    assert_eq!(initials("Maria Rocha"), "MR");
    assert_eq!(initials("ana maria de souza"), "AS");
    assert_eq!(initials("Plato"), "P");
    assert_eq!(initials("<script>"), "S");
    assert_eq!(initials("李 小龍"), "李小");
    assert_eq!(initials("…"), "");
}
