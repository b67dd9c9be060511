//! Changing what decides about a user (role, status, MFA), with everything that follows from it, in
//! one transaction: the credential stops or works again (C-9, C-10), sessions end, the owner is
//! told. There is no other way to write a standing.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Standing, Status, User},
    audit::{By, Entry, Event, Origin},
    credentials::{Credential, Effect},
};
use portcullis_store::Act;

use crate::{
    app::{App, letters::Letter},
    error::Failure,
};

/// What a change would do to somebody, to be shown before it is made.
#[derive(Debug)]
pub struct Foreseen {
    /// The credential in the user's place, if there is one.
    pub held: Option<Credential>,
    /// What becomes of it.
    pub effect: Option<Effect>,
}

impl App {
    /// What would become of a user's credential if the user's facts were `after`.
    ///
    /// # Errors
    /// The database's.
    pub async fn foresee(&self, user: &User, after: &Standing) -> Result<Foreseen, Failure> {
        let held = self.store.read().await?.held_credential(user.id).await?;
        let now = self.clock.now();
        let effect = held.as_ref().and_then(|c| c.effect(&user.standing, after, now));
        Ok(Foreseen { held, effect })
    }

    /// Writes a user's new facts with all that follows, and gives the records of what became of the
    /// credential; the record of the change itself is the caller's. `user` was read in this act,
    /// after [`portcullis_store::Tx::hold_tokens`].
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn change_standing(
        &self,
        act: &mut Act,
        (by, origin): (&By, &Origin),
        user: &User,
        after: &Standing,
        now: Timestamp,
    ) -> Result<Vec<Entry>, Failure> {
        let held = act.held_credential(user.id).await?;
        act.set_standing(user.id, after).await?;
        if after.status.0 != Status::Active {
            act.end_sessions_of(user.id).await?;
        }
        if after.status.0 == Status::Deleted {
            // Nothing opens a deleted account again: no password, no factor, no link; and no provider
            // makes its user a new one.
            act.drop_ways_in(user.id).await?;
        }
        let Some(credential) = held else { return Ok(Vec::new()) };
        let Some(effect) = credential.effect(&user.standing, after, now) else { return Ok(Vec::new()) };
        let client_id = credential.client_id.as_str();
        let record = |event| Entry::done(now, by.clone(), origin, event, client_id);
        let (entry, letter) = match effect {
            Effect::Suspended(why) => (
                record(Event::CredentialSuspended).with("reason", why.code()),
                Letter::CredentialSuspended { client_id, why },
            ),
            Effect::Resumed => (record(Event::CredentialResumed), Letter::CredentialResumed { client_id }),
            Effect::Revoked(why) => {
                act.revoke_credential(credential.id, why, now).await?;
                let entry = record(Event::CredentialRevoked).with("reason", why.code());
                (entry, Letter::CredentialRevoked { client_id, why })
            }
        };
        self.send(act, user, &letter).await?;
        Ok(vec![entry])
    }
}
