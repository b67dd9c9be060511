//! What follows a fault: everybody is brought back to where they can work, it has to work again, and what
//! was seen until then is checked.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use reqwest::StatusCode;
use tokio::time::sleep;

use super::Arena;
use crate::{
    check::Window,
    history::{Call, Operation, Outcome},
    people::{Pair, Person},
    register::Start,
    wire::GAVE_UP,
};

/// How long settling may take: the server's own patience with a database, and then some.
const SETTLE_LIMIT: u32 = 60;

impl Arena {
    /// Brings every owner back to where credentials can be managed, looks at what is held, sees to it that
    /// tokens are issued again, and checks what was seen since the last time. All servers run, and nobody
    /// else is at work.
    ///
    /// The acts of the Super Admin that come first are a fence: an act waits for every act that a database
    /// is still at, so that after them what was not answered happened or never will, unless a server
    /// may still be at it.
    ///
    /// # Errors
    /// When a server does not answer any more.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        self.close(true).await
    }

    /// The same without checking: what was acknowledged may be lost here.
    ///
    /// # Errors
    /// As [`Arena::settle`].
    pub async fn settle_unchecked(&mut self) -> anyhow::Result<()> {
        self.close(false).await
    }

    async fn close(&mut self, check: bool) -> anyhow::Result<()> {
        let (name, url) = self.doors().swap_remove(0);
        for at in 0..self.owners.len() {
            let owner = Arc::clone(&self.owners[at]);
            self.bring_back(&owner, (&name, &url)).await?;
            let held = self.works_again(&owner, (&name, &url)).await?;
            let calls = self.closer.take();
            self.absorb(calls);
            let start = Start { held, refusals_fit: self.clocks };
            let open = |call: &&Call| call.is_act() && call.outcome == Outcome::Unanswered(GAVE_UP.to_owned());
            let calls = self.windows[at].calls.iter().filter(open).cloned().collect();
            let window = std::mem::replace(&mut self.windows[at], Window { start, calls });
            if check && let Some(none) = window.check()? {
                let file = self.desk.folder().join(format!("violation-{}.json", self.report.violations.len()));
                window.keep(&file)?;
                self.report
                    .violations
                    .push(format!("{none}; see it again: ./dev/faults check {}", file.display()));
            }
        }
        Ok(())
    }

    /// The Super Admin turns an owner's MFA off, and gives the role back.
    async fn bring_back(&mut self, owner: &Person, (name, url): (&str, &str)) -> anyhow::Result<()> {
        let what = (&*owner.email, name);
        for act in ["turn-mfa-off", "give-super-admin"] {
            let operation = if act == "turn-mfa-off" { Operation::MfaOff } else { Operation::GiveRole };
            let mut signed_in = None;
            for tried in 0.. {
                let operator = &self.operator;
                let outcome = self.closer.note(what, operation.clone(), operator.manage(url, owner, act)).await?;
                match outcome {
                    Outcome::Done | Outcome::Refused(_) => break,
                    _ if tried > SETTLE_LIMIT => {
                        bail!("{act} is not answered: {outcome:?}; signing in: {signed_in:?}")
                    }
                    Outcome::NotDone(why) if why == "not_signed_in" => {
                        signed_in = operator.sign_in(url, None).await;
                        sleep(Duration::from_millis(100)).await;
                    }
                    _ => sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Ok(())
    }

    /// The owner signs in and looks at what is held.
    async fn look(&mut self, owner: &Person, (name, url): (&str, &str)) -> anyhow::Result<Option<String>> {
        let what = (&*owner.email, name);
        for tried in 0.. {
            let signed_in = owner.sign_in(url, None).await;
            if signed_in == Some(StatusCode::CREATED) {
                match self.closer.note(what, Operation::Look, owner.look(url)).await? {
                    Outcome::Looked(held) => return Ok(held.clone().map(|(id, _)| id)),
                    Outcome::Refused(why) => bail!("{} may not look: {why}", owner.email),
                    _ => {}
                }
            }
            if tried > SETTLE_LIMIT {
                bail!("{} cannot sign in any more: {signed_in:?}", owner.email);
            }
            sleep(Duration::from_millis(100)).await;
        }
        bail!("nobody looked")
    }

    /// That a server says it is ready is not enough: a program that has the secret of what the owner holds
    /// gets a token. Where nothing is held, it is generated first; what is held without anybody having been
    /// told its secret goes before. Gives what is held then.
    async fn works_again(&mut self, owner: &Person, door: (&str, &str)) -> anyhow::Result<Option<String>> {
        let (name, url) = door;
        let what = (&*owner.email, name);
        let mut said = String::new();
        for _ in 0..=SETTLE_LIMIT {
            let held = self.look(owner, door).await?;
            let pair = held.as_deref().and_then(|id| owner.pair_of(id));
            let outcome = match (held, pair) {
                (held, Some(pair)) => match self.no_token(owner, &pair).await? {
                    None => return Ok(held),
                    Some(outcome) => outcome,
                },
                (Some(_), None) => self.closer.note(what, Operation::Revoke, owner.revoke(url)).await?.clone(),
                (None, None) => self.closer.note(what, Operation::Generate, owner.generate(url)).await?.clone(),
            };
            if !matches!(outcome, Outcome::Generated(_) | Outcome::Revoked(_)) {
                said = format!("{outcome:?}");
                sleep(Duration::from_millis(100)).await;
            }
        }
        let held = self.look(owner, door).await?;
        self.report.violations.push(format!(
            "what was broken does not work again: no token for the credential of {}, who holds {held:?}: {said}",
            owner.email
        ));
        Ok(held)
    }

    /// Asks every server for a token; what is answered by the first that gives none.
    async fn no_token(&mut self, owner: &Person, pair: &Pair) -> anyhow::Result<Option<Outcome>> {
        // The others may refuse where their clocks are off.
        let asked = if self.clocks { 1 } else { self.nodes.len() };
        for (name, url) in self.doors().into_iter().take(asked) {
            let (what, issue) = ((&*owner.email, &*name), Operation::Issue(pair.id.clone()));
            let outcome = self.closer.note(what, issue, owner.issue(&url, pair)).await?;
            if !matches!(outcome, Outcome::Issued(_)) {
                return Ok(Some(outcome.clone()));
            }
        }
        Ok(None)
    }
}
