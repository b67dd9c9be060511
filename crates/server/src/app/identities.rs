//! The identities at providers that are linked to the caller's account.

use portcullis_domain::{
    audit::{Entry, Event},
    federation::{self, FederationRefused, LinkedIdentity},
};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        credentials::present,
        federation::{Errand, Going},
    },
    error::Failure,
};

/// Names an identity in a form: a digest, because a subject has no form of its own.
#[must_use]
pub fn key_of(linked: &LinkedIdentity) -> String {
    let text = format!("{}\n{}", linked.identity.issuer, linked.identity.subject);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect()
}

impl App {
    /// The identities of the caller.
    ///
    /// # Errors
    /// The database's.
    pub async fn identities(&self, caller: &Caller) -> Result<Vec<LinkedIdentity>, Failure> {
        Ok(self.store.read().await?.identities_of(caller.user.id).await?)
    }

    /// Whether the caller may link or unlink an identity now.
    ///
    /// # Errors
    /// [`FederationRefused`].
    pub fn may_change_links(&self, caller: &Caller) -> Result<(), FederationRefused> {
        federation::may_change_links(&caller.actor, &caller.user.standing, self.clock.now())
    }

    /// Begins a visit to a provider that links the identity there to the caller's account.
    ///
    /// # Errors
    /// [`Failure::Federation`]; a refused attempt is on record then.
    pub async fn begin_link(&self, caller: &Caller, provider: Uuid) -> Result<Going, Failure> {
        if let Err(why) = self.may_change_links(caller) {
            let id = caller.user.id.to_string();
            let entry = Entry::done(self.clock.now(), caller.by(), &caller.origin, Event::IdentityLinked, id);
            self.recorder.record(entry.with("what", "linked").refused(why.code())).await?;
            return Err(why.into());
        }
        let Via::Session { session, .. } = &caller.via else { return Err(Failure::NotSignedIn) };
        let errand = Errand::Link(session.handle);
        self.go_to_provider(provider, errand, Some(caller.user.id), &caller.origin).await
    }

    /// Unlinks an identity of the caller, by [`key_of`]. Sessions that the caller opened with it end.
    ///
    /// # Errors
    /// [`Failure::Federation`] with the rule that refuses; the attempt is on record then.
    pub async fn unlink_identity(&self, caller: &Caller, key: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let caller = present(self, &mut act, caller).await?;
        let id = caller.user.id;
        let all = act.identities_of(id).await?;
        let found = all.iter().find(|l| key_of(l) == key);
        let providers = act.providers().await?;
        let opens = |l: &LinkedIdentity| providers.iter().any(|p| p.settings.issuer == l.identity.issuer);
        let others = all.iter().filter(|l| key_of(l) != key && opens(l)).count();
        let decided = federation::may_change_links(&caller.actor, &caller.user.standing, now)
            .and_then(|()| found.ok_or(FederationRefused::NotLinked))
            .and_then(|linked| federation::unlink(&caller.user.standing, others).map(|()| linked));
        let mut entry = Entry::done(now, caller.by(), &caller.origin, Event::IdentityLinked, id.to_string())
            .with("what", "unlinked");
        if let Some(linked) = found {
            entry = entry.with("issuer", linked.identity.issuer.as_str());
        }
        match decided {
            Ok(linked) => {
                act.unlink_identity(id, &linked.identity).await?;
                Ok(act.commit(&[entry]).await?)
            }
            Err(why) => {
                act.commit(&[entry.refused(why.code())]).await?;
                Err(why.into())
            }
        }
    }
}
