//! Users: the first Super Admin, users made by the operator, profiles, the list.

pub mod manage;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::{
    accounts::{DisplayName, Email, Invalid, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    audit::{By, Entry, Event, Origin},
    secret::{ExposeSecret, SecretText},
};
use portcullis_store::{Purpose, StoreError};

use crate::{
    app::{App, Caller},
    error::Failure,
};

/// What somebody typed to make an account.
pub struct NewUser {
    /// E-mail.
    pub email: String,
    /// Name.
    pub name: String,
    /// Password.
    pub password: SecretText,
}

/// What somebody typed to change a profile.
#[derive(Debug)]
pub struct NewProfile {
    /// Name.
    pub name: String,
    /// A language's tag.
    pub language: String,
    /// An IANA time zone.
    pub time_zone: String,
}

impl App {
    /// The token of the set-up link while there is no user. It is derived from the master
    /// key and the installation, so every node knows the same one and none stores it.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_up_token(&self) -> Result<Option<SecretText>, Failure> {
        let installation = self.store.read().await?.installation().await?;
        Ok(installation.filter(|i| i.set_up_at.is_none()).map(|i| {
            let mac = self.mac(Purpose::SetUpLink, &i.name);
            BASE64URL.encode(mac).into()
        }))
    }

    /// Checks a set-up link.
    ///
    /// # Errors
    /// [`Failure::SetUpOver`].
    pub async fn check_set_up_token(&self, presented: &str) -> Result<(), Failure> {
        let token = self.set_up_token().await?.ok_or(Failure::SetUpOver)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(token.expose_secret().as_bytes(), presented.as_bytes())
            .map_err(|_| Failure::SetUpOver)
    }

    /// Makes the first Super Admin with the set-up link. Of two at once exactly one succeeds.
    ///
    /// # Errors
    /// [`Failure::SetUpOver`], [`Failure::Invalid`].
    pub async fn set_up(&self, token: &str, new: NewUser, origin: &Origin) -> Result<(), Failure> {
        self.check_set_up_token(token).await?;
        self.add_user(new, Role::SuperAdmin, By::Stranger, origin, true).await.map(drop)
    }

    /// Makes a user for the operator at the command line. The first one ends set-up.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub async fn create_user(&self, new: NewUser, role: Role) -> Result<User, Failure> {
        self.add_user(new, role, By::Operator, &Origin::default(), false).await
    }

    async fn add_user(
        &self,
        new: NewUser,
        role: Role,
        by: By,
        origin: &Origin,
        first_only: bool,
    ) -> Result<User, Failure> {
        let (email, name) = self.judge_user(&new)?;
        let hash = self.passwords.turn(origin).await?.hash(new.password, self.clock.random()).await?;
        let now = self.clock.now();
        let user = User {
            id: UserId(self.clock.id()),
            email,
            name,
            language: Language::EnglishInternational,
            time_zone: TimeZoneName::utc(),
            standing: Standing {
                role: (role, now),
                status: (Status::Active, now),
                mfa_since: None,
                has_password: true,
            },
            created_at: now,
        };
        let mut act = self.store.act().await?;
        let first = act.take_set_up(now).await?;
        if first_only && !first {
            return Err(Failure::SetUpOver);
        }
        if first && role != Role::SuperAdmin {
            let message = "The first account must be a Super Admin: add --super-admin.".to_owned();
            return Err(Failure::field(Invalid { field: "role", message }));
        }
        act.add_user(&user, Some(&hash)).await.map_err(|error| match error {
            StoreError::Conflict(_) => taken(),
            other => other.into(),
        })?;
        let entry = Entry::done(now, by, origin, Event::UserCreated, user.id.to_string())
            .with("email", user.email.as_str())
            .with("role", role.code());
        act.commit(&[entry]).await?;
        Ok(user)
    }

    /// All that is wrong with what was typed, at once.
    fn judge_user(&self, new: &NewUser) -> Result<(Email, DisplayName), Failure> {
        let email = Email::parse(&new.email);
        let name = DisplayName::parse(&new.name);
        let password = self.config.passwords.judge(new.password.expose_secret(), &[&new.email, &new.name]);
        match (email, name, password) {
            (Ok(email), Ok(name), Ok(())) => Ok((email, name)),
            (email, name, password) => {
                Err(Failure::Invalid([email.err(), name.err(), password.err()].into_iter().flatten().collect()))
            }
        }
    }

    /// Changes the caller's profile.
    ///
    /// # Errors
    /// [`Failure::Invalid`], with every field that is wrong.
    pub async fn change_profile(&self, caller: &Caller, new: &NewProfile) -> Result<(), Failure> {
        let name = DisplayName::parse(&new.name);
        let language = Language::parse(&new.language);
        let time_zone = TimeZoneName::parse(&new.time_zone);
        let (Ok(name), Ok(language), Ok(zone)) = (&name, &language, &time_zone) else {
            let wrong = [name.err(), language.err(), time_zone.err()].into_iter().flatten().collect();
            return Err(Failure::Invalid(wrong));
        };
        let mut act = self.store.act().await?;
        let before = act.user(caller.user.id).await?.ok_or(Failure::NotSignedIn)?;
        act.set_profile(caller.user.id, name, *language, zone).await?;
        let id = caller.user.id.to_string();
        let mut entry = Entry::done(self.clock.now(), caller.by(), &caller.origin, Event::ProfileChanged, id);
        for (field, old, new) in [
            ("name", before.name.as_str(), name.as_str()),
            ("language", before.language.code(), language.code()),
            ("time_zone", before.time_zone.as_str(), zone.as_str()),
        ] {
            if old != new {
                entry = entry.with(field, format!("{old} -> {new}"));
            }
        }
        if entry.details.is_empty() {
            return Ok(());
        }
        Ok(act.commit(&[entry]).await?)
    }

    /// A page of users, for Super Admins. A whole address finds its user alone, and at once: parts are
    /// looked for in every user.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub async fn users(
        &self,
        caller: &Caller,
        after: Option<UserId>,
        fragment: &str,
        status: Option<Status>,
        limit: u32,
    ) -> Result<Vec<User>, Failure> {
        caller.super_admin()?;
        let fragment = fragment.trim().to_lowercase();
        let mut tx = self.store.read().await?;
        if let (None, Ok(email)) = (after, Email::parse(&fragment))
            && let Some(user) = tx.user_by_email(&email).await?
        {
            let is_wanted = status.is_none_or(|status| status == user.standing.status.0) && limit > 0;
            return Ok(is_wanted.then_some(user).into_iter().collect());
        }
        Ok(tx.users(after, &fragment, status, limit).await?)
    }

    /// A user, for Super Admins and for the user.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`].
    pub async fn user(&self, caller: &Caller, id: UserId) -> Result<User, Failure> {
        if caller.user.id != id {
            caller.super_admin()?;
        }
        let user = self.store.read().await?.user(id).await?;
        user.filter(|u| u.standing.status.0 != Status::Deleted).ok_or(Failure::NotFound)
    }
}

fn taken() -> Failure {
    let message = "There is an account with this e-mail address already.".to_owned();
    Failure::field(Invalid { field: "email", message })
}
