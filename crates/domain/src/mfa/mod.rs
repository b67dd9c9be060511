//! Multi-factor authentication: each user's own, of an authenticator app, passkeys and
//! recovery codes. Who may change it, and what removing a factor means.

pub mod passkey;
pub mod recovery;
pub mod totp;

use jiff::Timestamp;

use crate::{
    accounts::Standing,
    sessions::{Actor, Opened},
};

/// The second factors of a user. Recovery codes stand in for one that is lost; they are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Factors {
    /// Whether an authenticator app is set up and confirmed.
    pub app: bool,
    /// How many passkeys there are.
    pub passkeys: usize,
}

impl Factors {
    /// MFA is on while there is at least one factor.
    #[must_use]
    pub fn is_on(self) -> bool {
        self.app || self.passkeys > 0
    }

    /// The factors without the app.
    #[must_use]
    pub fn without_app(self) -> Self {
        Self { app: false, ..self }
    }

    /// The factors without one of the passkeys.
    #[must_use]
    pub fn without_a_passkey(self) -> Self {
        Self { passkeys: self.passkeys.saturating_sub(1), ..self }
    }
}

/// A code as somebody types it at the second step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Of an authenticator app.
    App(totp::AppCode),
    /// A recovery code.
    Recovery(recovery::RecoveryCode),
}

impl Code {
    /// Reads what was typed; `None` when it can be neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        totp::AppCode::parse(text)
            .map(Self::App)
            .or_else(|| recovery::RecoveryCode::parse(text).map(Self::Recovery))
    }
}

/// Why second factors were not changed. The text is for the person who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MfaRefused {
    /// T-4.
    #[error("An access token cannot change multi-factor authentication. Sign in to the console.")]
    ByToken,
    /// the session was opened through a provider.
    #[error(
        "Multi-factor authentication cannot be changed from a federated login. \
         Sign in with your Portcullis password to change it."
    )]
    FederatedLogin,
    /// the account has no local password.
    #[error(
        "Your account has no Portcullis password. Multi-factor authentication belongs to the provider you sign in with."
    )]
    NoLocalPassword,
    /// The password was not given lately.
    #[error(
        "Enter your password to change multi-factor authentication. It is asked for unless you gave it in the last \
         5 minutes."
    )]
    PasswordNeeded,
    /// There is nothing to turn off.
    #[error("Multi-factor authentication is off.")]
    NotOn,
    /// There is an app already.
    #[error("An authenticator app is set up already. Remove it before setting up another.")]
    AppAlready,
    /// There is no such factor any more.
    #[error("This has been removed already.")]
    Gone,
    /// Enough is enough.
    #[error("You have {MAX_PASSKEYS} passkeys, which is the most. Remove one before adding another.", MAX_PASSKEYS = passkey::MOST)]
    TooManyPasskeys,
    /// There is no passkey that could sign in alone.
    #[error("You have no passkey.")]
    NoPasskey,
    /// with MFA on, a factor is added with another.
    #[error("Give a second factor that you have, then go on within 5 minutes.")]
    FactorNeeded,
    /// C-9: turning on suspends the credential, and that was not confirmed.
    #[error("Turning this on suspends your credential. Confirm that it may stop working, then try again.")]
    SuspendsCredential,
}

impl MfaRefused {
    /// The word in the API and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ByToken => "not_with_a_token",
            Self::FederatedLogin => "federated_login",
            Self::NoLocalPassword => "no_local_password",
            Self::PasswordNeeded => "password_needed",
            Self::NotOn => "mfa_off",
            Self::AppAlready => "app_already",
            Self::Gone => "factor_gone",
            Self::TooManyPasskeys => "too_many_passkeys",
            Self::NoPasskey => "no_passkey",
            Self::FactorNeeded => "second_factor_needed",
            Self::SuspendsCredential => "suspends_credential",
        }
    }
}

/// may `actor`, whose facts are `user`, change their own second factors at `now`? Only in a
/// session that was not opened through a provider, of an account with a password, given in the last
/// five minutes. What takes a factor away asks for a second factor besides, and so does [`add`].
///
/// # Errors
/// The first rule that refuses, from what the person can least change to what they easily can.
pub fn manage(actor: &Actor, user: &Standing, now: Timestamp) -> Result<(), MfaRefused> {
    match actor {
        Actor::Token { .. } => return Err(MfaRefused::ByToken),
        Actor::Session { opened: Opened::Provider, .. } => return Err(MfaRefused::FederatedLogin),
        Actor::Session { .. } => {}
    }
    if !user.has_password {
        return Err(MfaRefused::NoLocalPassword);
    }
    if !actor.password_is_fresh(now) {
        return Err(MfaRefused::PasswordNeeded);
    }
    Ok(())
}

/// may a factor be added to the account of `user`? While MFA is on, only after another second
/// factor was given for that, or who has the password alone makes a factor of their own. `proven_in`
/// is since when MFA was on when one was given: what was proven before it was turned off and on again
/// does not count.
///
/// # Errors
/// [`MfaRefused::FactorNeeded`].
pub fn add(user: &Standing, proven_in: Option<Timestamp>) -> Result<(), MfaRefused> {
    if user.mfa_since.is_some() && user.mfa_since != proven_in {
        return Err(MfaRefused::FactorNeeded);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;
    use crate::accounts::{Role, Status, UserId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn actor(opened: Opened) -> Actor {
        Actor::Session { user: UserId(Uuid::nil()), opened, password_at: Some(at(0)) }
    }

    fn user(has_password: bool) -> Standing {
        Standing { role: (Role::User, at(0)), status: (Status::Active, at(0)), mfa_since: None, has_password }
    }

    #[test]
    fn a5_factors_are_changed_in_a_local_session_with_a_recent_password_and_nowhere_else() {
        for opened in [Opened::Password, Opened::PasswordAndMfa, Opened::Passkey] {
            assert_eq!(manage(&actor(opened), &user(true), at(299)), Ok(()));
        }
        let late = at(0) + SignedDuration::from_mins(5);
        assert_eq!(manage(&actor(Opened::Password), &user(true), late), Err(MfaRefused::PasswordNeeded));
        assert_eq!(manage(&actor(Opened::Provider), &user(true), at(1)), Err(MfaRefused::FederatedLogin));
        assert_eq!(manage(&actor(Opened::Password), &user(false), at(1)), Err(MfaRefused::NoLocalPassword));
        let token = Actor::Token { owner: UserId(Uuid::nil()) };
        assert_eq!(manage(&token, &user(true), at(1)), Err(MfaRefused::ByToken), "T-4");
    }

    #[test]
    fn a5_with_mfa_on_a_factor_is_added_with_another_given_since_it_is_on() {
        let with_mfa = |since| Standing { mfa_since: since, ..user(true) };
        assert_eq!(add(&with_mfa(None), None), Ok(()), "the first needs none");
        assert_eq!(add(&with_mfa(None), Some(at(1))), Ok(()), "it was turned off meanwhile");
        assert_eq!(add(&with_mfa(Some(at(1))), Some(at(1))), Ok(()));
        for proven_in in [None, Some(at(0)), Some(at(2))] {
            assert_eq!(add(&with_mfa(Some(at(1))), proven_in), Err(MfaRefused::FactorNeeded), "{proven_in:?}");
        }
    }

    #[test]
    fn a5_removing_the_last_factor_is_turning_off() {
        let both = Factors { app: true, passkeys: 1 };
        assert!(both.is_on() && both.without_app().is_on() && both.without_a_passkey().is_on());
        assert!(!both.without_app().without_a_passkey().is_on());
        assert!(!Factors::default().without_a_passkey().is_on());
    }

    #[test]
    fn a_code_is_of_the_app_or_a_recovery_code() {
        assert!(matches!(Code::parse(" 012345 "), Some(Code::App(_))));
        assert!(matches!(Code::parse("abcd-efgh-jkmn"), Some(Code::Recovery(_))));
        for neither in ["", "12345", "1234567", "12 3456", "０12345", "abcd-efgh"] {
            assert_eq!(Code::parse(neither), None, "{neither}");
        }
    }
}
