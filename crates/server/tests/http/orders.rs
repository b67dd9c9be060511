//! The sign-in, walked in all orders against a small model (A-5, A-8; protocol 30, 37): every pair of
//! steps on both databases, every triple on SQLite, each walk in one go, so that whatever an earlier
//! step left behind is there for the later ones. No order opens a session without both factors, none
//! keeps an old session id, and none makes a thing count twice that counts once.

use std::collections::HashSet;

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::UserId,
    links::{Link, LinkPurpose},
};
use reqwest::StatusCode;
use uuid::Uuid;

use crate::{
    federation::{Hostile, link, set_up},
    mfa::tab::{Page, Phone, SESSION, STEP, Tab},
    support::{PASSWORD, World},
};

const MARIA: &str = "maria@acme.example";

/// Sessions that last as long as a walk does.
const LONG: [(&str, &str); 2] = [("session_idle_minutes", "1440"), ("session_absolute_hours", "168")];

/// A step that somebody can take at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Password,
    WrongPassword,
    Code,
    WrongCode,
    /// The last right code, again.
    UsedCode,
    Recovery,
    /// A recovery code that was used before.
    UsedRecovery,
    /// The sign-in at a provider, up to its callback.
    Provider,
    /// The last callback, again.
    UsedCallback,
    /// A new password with a link from the mailbox.
    Reset,
    /// The password given again in the session.
    Confirm,
    SignOut,
}

const STEPS: [Step; 12] = [
    Step::Password,
    Step::WrongPassword,
    Step::Code,
    Step::WrongCode,
    Step::UsedCode,
    Step::Recovery,
    Step::UsedRecovery,
    Step::Provider,
    Step::UsedCallback,
    Step::Reset,
    Step::Confirm,
    Step::SignOut,
];

/// A shortest walk in which every sequence of `length` steps occurs: a de Bruijn sequence, by joining
/// the Lyndon words whose length divides `length`, and its beginning once more at the end.
fn every(length: usize) -> Vec<Step> {
    fn lyndon(at: usize, period: usize, word: &mut Vec<usize>, out: &mut Vec<usize>) {
        let length = word.len() - 1;
        if at > length {
            if length.is_multiple_of(period) {
                out.extend_from_slice(&word[1..=period]);
            }
            return;
        }
        word[at] = word[at - period];
        lyndon(at + 1, period, word, out);
        for step in word[at - period] + 1..STEPS.len() {
            word[at] = step;
            lyndon(at + 1, at, word, out);
        }
    }
    let mut walk = Vec::new();
    lyndon(1, 1, &mut vec![0; length + 1], &mut walk);
    walk.extend_from_within(..length - 1);
    walk.into_iter().map(|n| STEPS[n]).collect()
}

/// What may be so, whatever the server thinks.
#[derive(Debug, Default)]
struct Model {
    /// A first factor was proven, and nothing ended that since.
    first: bool,
    /// The session that is open.
    session: Option<String>,
}

struct Walk {
    world: World,
    tab: Tab,
    phone: Phone,
    /// A recovery code that is good each time, and one that was used at the beginning.
    recovery: (String, String),
    recovery_used_at: i64,
    hostile: Hostile,
    provider: Uuid,
    maria: UserId,
    last_code: String,
    last_callback: String,
    model: Model,
    /// Every session id there ever was.
    ids: HashSet<String>,
    opened: usize,
}

impl Walk {
    async fn begin(world: World) -> Self {
        let person = world.maria().await;
        let hostile = Hostile::start(&world.clock).await;
        let provider = set_up(&world, &person, &hostile, false).await;
        let maria = world.user_of(MARIA).await.id;
        link(&world, &hostile, maria).await;
        let mut tab = Tab::of(&world, &person);
        let (phone, codes) = tab.set_up_app(&world).await;
        tab.post("/sign-out", &[]).await;
        tab.password(MARIA).await;
        assert_eq!(tab.code(&codes[0]).await.status, StatusCode::SEE_OTHER);
        let recovery_used_at = world.clock.now().as_microsecond();
        tab.post("/sign-out", &[]).await;
        assert!(!tab.is_signed_in().await);
        world.pass(SignedDuration::from_secs(1));
        let last_code = phone.code_at(world.clock.now().as_second() - 3600);
        Self {
            world,
            tab,
            phone,
            recovery: (codes[1].clone(), codes[0].clone()),
            recovery_used_at,
            hostile,
            provider,
            maria,
            last_code,
            last_callback: format!("/sign-in/provider/{provider}/callback?code=none&state=none"),
            model: Model::default(),
            ids: HashSet::new(),
            opened: 0,
        }
    }

    async fn reset(&mut self) -> Page {
        let token = format!("link-of-a-test-{}", self.world.clock.id());
        let mut digest = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.copy_from_slice(hash.as_ref());
        let mut tx = self.world.app.store.write().await.unwrap();
        let link = Link::new(self.maria, LinkPurpose::PasswordReset, self.world.clock.now());
        tx.add_link(&digest, &link).await.unwrap();
        tx.commit().await.unwrap();
        self.tab.post(&format!("/reset-password/{token}"), &[("password", PASSWORD)]).await
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Password => {
                let page = self.tab.password(MARIA).await;
                assert_eq!(page.to, "/sign-in/second-factor");
                self.model.first = true;
            }
            Step::WrongPassword => {
                let page = self.tab.post("/sign-in", &[("email", MARIA), ("password", "not the password")]).await;
                assert_eq!(page.status, StatusCode::UNAUTHORIZED);
            }
            Step::Code => {
                // A code counts once, so each comes from a step of its own.
                self.world.pass(SignedDuration::from_secs(30));
                let code = self.phone.code(&self.world);
                let page = self.tab.code(&code).await;
                if page.status == StatusCode::SEE_OTHER && !page.to.starts_with("/sign-in") {
                    self.last_code = code;
                }
            }
            Step::WrongCode => {
                let wrong = self.phone.wrong(&self.world);
                self.tab.code(&wrong).await;
            }
            Step::UsedCode => {
                let code = self.last_code.clone();
                self.tab.code(&code).await;
            }
            Step::Recovery => {
                let code = self.recovery.0.clone();
                self.tab.code(&code).await;
            }
            Step::UsedRecovery => {
                let code = self.recovery.1.clone();
                self.tab.code(&code).await;
            }
            Step::Provider | Step::UsedCallback => self.take_at_provider(step).await,
            Step::Reset => {
                let page = self.reset().await;
                assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
                self.model = Model::default();
            }
            Step::Confirm => {
                let page = self
                    .tab
                    .post("/account/mfa/password", &[("password", PASSWORD), ("to", "/account/mfa/app")])
                    .await;
                assert_eq!(page.status == StatusCode::SEE_OTHER, self.model.session.is_some(), "{}", page.text);
            }
            Step::SignOut => {
                self.tab.post("/sign-out", &[]).await;
                self.model.session = None;
            }
        }
        // Lock-out has tests of its own; here it would hide what comes after it.
        self.world.sql("DELETE FROM sign_in_failures").await;
        let again = format!("UPDATE recovery_codes SET used_at = NULL WHERE used_at > {}", self.recovery_used_at);
        self.world.sql(&again).await;
    }

    async fn take_at_provider(&mut self, step: Step) {
        if step == Step::UsedCallback {
            let callback = self.last_callback.clone();
            let page = self.tab.get(&callback).await;
            assert!(page.to.contains("problem="), "{} {}", page.status, page.to);
            return;
        }
        // A network may begin so many visits a minute.
        self.world.pass(SignedDuration::from_secs(2));
        let (page, callback) = self.tab.through(&self.hostile, self.provider).await;
        self.last_callback = callback;
        assert_eq!(page.to, "/sign-in/second-factor", "MFA is asked for by this way too");
        self.model.first = true;
    }

    /// Compares what is so with what may be so.
    async fn check(&mut self, walked: &[Step]) {
        let step = *walked.last().unwrap();
        let cookie = self.tab.cookies.get(SESSION).cloned();
        let before = self.model.session.clone();
        if cookie.is_some() && cookie != before && self.tab.is_signed_in().await {
            let id = cookie.clone().unwrap();
            assert!(self.ids.insert(id.clone()), "a session id of before: {walked:?}");
            let completes = self.model.first && matches!(step, Step::Code | Step::Recovery);
            let renews = before.is_some() && step == Step::Confirm;
            assert!(completes || renews, "a session out of order: {walked:?}");
            if completes {
                self.model.first = false;
                self.opened += 1;
                assert!(!self.tab.cookies.contains_key(STEP), "nothing is under way any more");
            }
            self.model.session = Some(id);
            if let Some(old) = before {
                let mut other = self.tab.copied();
                other.cookies.insert(SESSION.to_owned(), old);
                assert!(!other.is_signed_in().await, "protocol 30: the old id is dead: {walked:?}");
            }
        }
        let open = self.tab.is_signed_in().await;
        assert_eq!(open, self.model.session.is_some(), "{walked:?}: {:?}", self.model);
    }

    async fn walk(mut self, steps: &[Step]) {
        for at in 0..steps.len() {
            self.take(steps[at]).await;
            self.check(&steps[at.saturating_sub(5)..=at]).await;
        }
        assert!(self.opened > steps.len() / 50, "the walk signs in, too: {} of {}", self.opened, steps.len());
        // And the straight way works after all that.
        self.tab.post("/sign-out", &[]).await;
        self.model.session = None;
        self.take(Step::Password).await;
        self.take(Step::Code).await;
        assert!(self.tab.is_signed_in().await);
        self.world.log_is_whole().await;
    }
}

#[test]
fn every_pair_and_every_triple_of_steps_is_walked() {
    for length in [2, 3] {
        let walk = every(length);
        let seen: HashSet<String> = walk.windows(length).map(|w| format!("{w:?}")).collect();
        assert_eq!(seen.len(), STEPS.len().pow(u32::try_from(length).unwrap()));
        assert_eq!(walk.len(), seen.len() + length - 1, "and none twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_triple_of_steps_skips_a_factor_or_keeps_a_session_on_sqlite() {
    Walk::begin(World::sqlite(&LONG).await).await.walk(&every(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pair_of_steps_skips_a_factor_or_keeps_a_session_on_postgres() {
    Walk::begin(World::postgres(&LONG).await).await.walk(&every(2)).await;
}
