//! Managing other people's accounts: inviting, activating, deactivating, deleting,
//! the role Super Admin, turning MFA off; and what an invited user does with the link.

use portcullis_domain::{
    accounts::{
        DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId,
        manage::{self, Act, ManageRefused},
    },
    audit::{By, Entry, Event, Origin},
    links::{Link, LinkPurpose, LinkRefused},
    secret::{ExposeSecret, SecretText},
};
use portcullis_store::{IdentityShown, StoreError, Tx};

use super::taken;
use crate::{
    app::{App, Caller, credentials::present, letters::Letter, sessions::secret_digest, standing::Foreseen},
    error::Failure,
};

/// A user who was invited.
pub struct Invited {
    /// The user.
    pub user: User,
    /// The link, for the administrator to hand over, while there is no mail server.
    pub link: Option<SecretText>,
}

/// A user as the page for Super Admins shows them.
pub struct Person {
    /// The user.
    pub user: User,
    /// When the user last signed in.
    pub signed_in_at: Option<jiff::Timestamp>,
    /// The identities at providers.
    pub identities: Vec<IdentityShown>,
    /// The credential in the user's place, and what becomes of it: nothing, here.
    pub credential: Foreseen,
    /// What the caller may do to the user now.
    pub may: Vec<Act>,
}

/// What an act leaves in the audit log.
#[must_use]
pub fn event(act: Act) -> Event {
    match act {
        Act::InviteAgain => Event::UserInvited,
        Act::Activate => Event::UserActivated,
        Act::Deactivate => Event::UserDeactivated,
        Act::Delete => Event::UserDeleted,
        Act::GiveSuperAdmin | Act::TakeSuperAdmin => Event::RoleChanged,
        Act::TurnMfaOff => Event::MfaDisabled,
    }
}

impl App {
    /// A user and what may be done, for Super Admins.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`].
    pub async fn person(&self, caller: &Caller, id: UserId) -> Result<Person, Failure> {
        caller.super_admin()?;
        let user = self.user(caller, id).await?;
        let mut tx = self.store.read().await?;
        let signed_in_at = tx.signed_in_at(id).await?;
        let identities = tx.identities_shown(id).await?;
        let others = tx.other_super_admins(id).await?;
        drop(tx);
        let credential = self.foresee(&user, &user.standing).await?;
        let may = Act::ALL.into_iter().filter(|act| self.decided(*act, caller, &user, others).is_ok()).collect();
        Ok(Person { user, signed_in_at, identities, credential, may })
    }

    fn decided(&self, act: Act, caller: &Caller, user: &User, others: u64) -> Result<Standing, ManageRefused> {
        let acting = (&caller.actor, &caller.user.standing);
        manage::decide(act, acting, (user.id, &user.standing), others, self.clock.now())
    }

    /// What an act would do to a user's credential, to be shown before it is done.
    ///
    /// # Errors
    /// [`Failure::NotFound`]; [`Failure::Manage`] with the rule that would refuse.
    pub async fn foresee_act(&self, caller: &Caller, id: UserId, act: Act) -> Result<(User, Foreseen), Failure> {
        caller.super_admin()?;
        let user = self.user(caller, id).await?;
        let others = self.store.read().await?.other_super_admins(id).await?;
        let after = self.decided(act, caller, &user, others)?;
        let foreseen = self.foresee(&user, &after).await?;
        Ok((user, foreseen))
    }

    /// Does an act to a user.
    ///
    /// # Errors
    /// [`Failure::Manage`] with the rule that refuses, which is on record then;
    /// [`Failure::NotFound`].
    pub async fn manage_user(&self, caller: &Caller, id: UserId, what: Act) -> Result<Invited, Failure> {
        let mut act = self.store.act().await?;
        // First of all: whatever stops tokens is decided on what stays true until it is committed.
        act.hold_tokens().await?;
        let caller = present(self, &mut act, caller).await?;
        let now = self.clock.now();
        let entry = Entry::done(now, caller.by(), &caller.origin, event(what), id.to_string());
        let refuse = async |act: portcullis_store::Act, why: ManageRefused| {
            act.commit(&[entry.clone().refused(why.code())]).await?;
            Err(Failure::from(why))
        };
        // Who may not manage users does not learn either who exists.
        if let Err(why) = manage::manage(&caller.actor, &caller.user.standing) {
            return refuse(act, why).await;
        }
        let user = act.user(id).await?.ok_or(Failure::NotFound)?;
        let others = act.other_super_admins(id).await?;
        let after = match self.decided(what, &caller, &user, others) {
            Ok(after) => after,
            Err(why) => return refuse(act, why).await,
        };
        let mut entries = vec![told(entry, what, &user, &after)];
        let mut link = None;
        match what {
            Act::InviteAgain => {
                link = Some(self.send_invitation(&mut act, &user, caller.user.name.as_str()).await?)
            }
            Act::Deactivate => act.drop_links_of(id).await?,
            Act::TurnMfaOff => {
                act.remove_factors(id).await?;
                act.end_ceremonies_of(id).await?;
                self.send(&mut act, &user, &Letter::MfaDisabled { by: caller.user.name.as_str() }).await?;
            }
            Act::Activate | Act::GiveSuperAdmin | Act::TakeSuperAdmin | Act::Delete => {}
        }
        if what != Act::InviteAgain {
            let by = (&caller.by(), &caller.origin);
            entries.extend(self.change_standing(&mut act, by, &user, &after, now).await?);
        }
        act.commit(&entries).await?;
        let link = link.filter(|_| self.outbox.folder().is_some());
        Ok(Invited { user: User { standing: after, ..user }, link })
    }

    /// Makes an account for somebody and sends the link that activates it.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for an address that is none or is taken; [`Failure::Manage`], which is
    /// on record then.
    pub async fn invite(&self, caller: &Caller, email: &str) -> Result<Invited, Failure> {
        let email = Email::parse(email);
        let mut act = self.store.act().await?;
        let caller = present(self, &mut act, caller).await?;
        let now = self.clock.now();
        let entry = |subject: String| Entry::done(now, caller.by(), &caller.origin, Event::UserInvited, subject);
        if let Err(why) = manage::manage(&caller.actor, &caller.user.standing) {
            act.commit(&[entry("a new user".to_owned()).refused(why.code())]).await?;
            return Err(why.into());
        }
        let email = email?;
        // Until the person chooses one, the name is what stands before the @.
        let name = email.as_str().split('@').next().unwrap_or_default();
        let user = User {
            id: UserId(self.clock.id()),
            name: DisplayName::parse(name)?,
            email,
            language: Language::EnglishInternational,
            time_zone: TimeZoneName::utc(),
            standing: Standing {
                role: (Role::User, now),
                status: (Status::Pending, now),
                mfa_since: None,
                has_password: false,
            },
            created_at: now,
        };
        act.add_user(&user, None).await.map_err(|error| match error {
            StoreError::Conflict(_) => taken(),
            other => other.into(),
        })?;
        let link = self.send_invitation(&mut act, &user, caller.user.name.as_str()).await?;
        act.commit(&[entry(user.id.to_string()).with("email", user.email.as_str())]).await?;
        Ok(Invited { user, link: Some(link).filter(|_| self.outbox.folder().is_some()) })
    }

    /// Makes the link that activates a pending account, in place of earlier ones, and sends it.
    async fn send_invitation(&self, tx: &mut Tx, user: &User, by: &str) -> Result<SecretText, Failure> {
        let (link, until) = self.make_link(tx, user.id, LinkPurpose::Invitation).await?;
        self.send(tx, user, &Letter::Invitation { by, link: link.expose_secret(), until }).await?;
        Ok(link)
    }

    /// Makes a link for a user, and tells until when it is good.
    pub(crate) async fn make_link(
        &self,
        tx: &mut Tx,
        user: UserId,
        purpose: LinkPurpose,
    ) -> Result<(SecretText, jiff::Timestamp), Failure> {
        let (token, digest) = self.new_secret();
        let link = Link::new(user, purpose, self.clock.now());
        tx.add_link(&digest, &link).await?;
        let page = match purpose {
            LinkPurpose::Invitation => "activate",
            LinkPurpose::PasswordReset => "reset-password",
        };
        let url = format!("{}/{page}/{}", self.config.public_url, token.expose_secret());
        Ok((url.into(), link.expires_at))
    }

    /// Whose link this is, if it is good now and the account can be opened with it.
    ///
    /// # Errors
    /// [`Failure::Link`].
    pub async fn check_link(&self, token: &str, purpose: LinkPurpose) -> Result<User, Failure> {
        self.linked(&mut self.store.read().await?, token, purpose).await
    }

    /// The same in an act or beside one. An old link never opens an account that was deactivated
    /// or deleted meanwhile: how the account stands is read with it.
    pub(crate) async fn linked(&self, tx: &mut Tx, token: &str, purpose: LinkPurpose) -> Result<User, Failure> {
        let link = tx.link(&secret_digest(token), purpose).await?.ok_or(LinkRefused::Unknown)?;
        link.check(self.clock.now())?;
        let user = tx.user(link.user).await?.ok_or(LinkRefused::Unknown)?;
        let standing = &user.standing;
        let opens = match purpose {
            LinkPurpose::Invitation => standing.status.0 == Status::Pending && !standing.has_password,
            LinkPurpose::PasswordReset => standing.status.0 == Status::Active && standing.has_password,
        };
        if opens { Ok(user) } else { Err(LinkRefused::Unknown.into()) }
    }

    /// Activates an invited account with the name and password its user chose. Signs nobody in.
    ///
    /// # Errors
    /// [`Failure::Link`], which is on record; [`Failure::Invalid`], with every field that is wrong.
    pub async fn activate(
        &self,
        token: &str,
        name: &str,
        password: SecretText,
        origin: &Origin,
    ) -> Result<User, Failure> {
        let user = self.link_to_use(token, LinkPurpose::Invitation, origin).await?;
        let about = [user.email.as_str(), name];
        let judged = self.config.passwords.judge(password.expose_secret(), &about);
        let name = match (DisplayName::parse(name), judged) {
            (Ok(name), Ok(())) => name,
            (name, judged) => {
                return Err(Failure::Invalid([name.err(), judged.err()].into_iter().flatten().collect()));
            }
        };
        let hash = self.passwords.turn(origin).await?.hash(password, self.clock.random()).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        act.hold_tokens().await?;
        let user = self.linked(&mut act, token, LinkPurpose::Invitation).await?;
        let used = act.use_link(&secret_digest(token), LinkPurpose::Invitation, now).await?;
        if !used || !act.set_first_password(user.id, &hash).await? {
            return Err(Failure::Conflict);
        }
        act.set_profile(user.id, &name, user.language, &user.time_zone).await?;
        let after = Standing { status: (Status::Active, now), has_password: true, ..user.standing.clone() };
        let by = By::User(user.id.to_string());
        let mut entries = vec![
            Entry::done(now, by.clone(), origin, Event::UserActivated, user.id.to_string())
                .with("with", "invitation"),
        ];
        entries.extend(self.change_standing(&mut act, (&by, origin), &user, &after, now).await?);
        act.commit(&entries).await?;
        Ok(User { name, standing: after, ..user })
    }
}

/// What changed, for the record.
fn told(entry: Entry, what: Act, user: &User, after: &Standing) -> Entry {
    match what {
        Act::GiveSuperAdmin | Act::TakeSuperAdmin => {
            entry.with("role", format!("{} -> {}", user.standing.role.0.code(), after.role.0.code()))
        }
        Act::Delete => entry.with("email", user.email.as_str()),
        _ => entry,
    }
}
