//! Keys in place of the Client Secret: bound, removed, and the secret switched off and on (C-14,
//! C-15); and the assertions that are signed with them (RFC 7523, protocol 27).

use aws_lc_rs::digest;
use jiff::Timestamp;
use portcullis_domain::{
    audit::{By, Entry, Event, Origin},
    client_keys::{self, Assertion, AssertionRefused, ClientKey, ClientKeyRefused, KeyAct},
    credentials::{Credential, Standing},
};
use portcullis_store::{Act, PresentedClient, UsedProof};
use portcullis_verify::{
    jwk::{Algorithm, PublicJwk},
    jws::{Jws, JwsError},
};

use crate::{
    app::{
        App, Caller,
        credentials::present,
        letters::{CredentialChange, Letter},
        tokens::{ClientProof, ClientRefused, Given},
    },
    error::Failure,
};

/// Public keys of nobody, out of RFC 7515 A.3, RFC 8037 A.2 and RFC 7515 A.2: signatures of clients
/// without a key are checked with them, so that all take as long (protocol 9).
const NOBODY: [&str; 3] = [
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
];

/// An assertion whose claims are in order. Whether its client signed it is another question.
pub struct SignedAssertion {
    claims: Assertion,
    text: String,
    /// The thumbprint of the key that it was seen to be signed with, once that was looked at.
    signed_by: Option<String>,
}

/// Why a text is no assertion of anybody's.
#[derive(Debug, thiserror::Error)]
pub enum NotAnAssertion {
    /// It is not a signed token as it has to be.
    #[error("The client assertion is not taken: {0}.")]
    Jws(#[from] JwsError),
    /// Its `typ` names something else.
    #[error("The typ of the client assertion is to be JWT or client-authentication+jwt, or not there.")]
    Type,
    /// Its claims are not in order.
    #[error(transparent)]
    Claims(#[from] AssertionRefused),
}

impl SignedAssertion {
    /// Reads an assertion made for this server.
    ///
    /// # Errors
    /// [`NotAnAssertion`]: nothing that depends on which clients there are.
    pub fn read(text: &str, issuer: &str, now: Timestamp) -> Result<Self, NotAnAssertion> {
        let jws = Jws::parse(text)?;
        // RFC 7523bis §4; RFC 8725 §3.11.
        if jws.has_typ() && !jws.is_typ("JWT") && !jws.is_typ("client-authentication+jwt") {
            return Err(NotAnAssertion::Type);
        }
        let claims = jws.unverified_claims().clone().typed().map_err(|_| AssertionRefused::Claims)?;
        let claims = Assertion::check(claims, issuer, now)?;
        Ok(Self { claims, text: text.to_owned(), signed_by: None })
    }

    /// The Client ID that it names.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.claims.client_id
    }

    /// What is remembered of it, so that it counts once. Two clients may choose the same id.
    pub(crate) fn used(&self) -> UsedProof {
        used("client assertion", &self.claims.client_id, &self.claims.jti, self.claims.ends_at)
    }

    /// Whether a key signed it.
    fn is_signed_by(&self, key: &PublicJwk) -> bool {
        Jws::parse(&self.text).and_then(|jws| jws.verify(key)).is_ok()
    }

    /// Whether it was seen to be signed with the key that this credential has.
    pub(crate) fn is_of(&self, credential: &Credential) -> bool {
        let bound = credential.key.as_ref().map(|key| &key.thumbprint);
        bound.is_some() && self.signed_by.as_ref() == bound
    }

    /// Checks the signature with the key of the client that was found. Without a key, or with one of
    /// another kind, the same work is done with nobody's (protocol 9).
    fn check(&mut self, found: Option<&PresentedClient>) -> Result<(), Failure> {
        let unreadable = |e| Failure::Internal(format!("public key: {e}"));
        let algorithm = Jws::parse(&self.text).map(|jws| jws.algorithm()).unwrap_or(Algorithm::Es256);
        let bound = found.and_then(|client| client.credential.key.as_ref());
        let bound = bound.map(|key| PublicJwk::from_json(&key.jwk)).transpose().map_err(unreadable)?;
        let bound = bound.filter(|key| key.algorithm() == algorithm);
        let nobody = Algorithm::ALL.iter().position(|a| *a == algorithm).map_or(NOBODY[0], |at| NOBODY[at]);
        self.signed_by = match bound {
            Some(key) => self.is_signed_by(&key).then(|| key.thumbprint()),
            None => {
                let nobody = PublicJwk::from_json(nobody).map_err(unreadable)?;
                // The answer is no, whatever it is.
                let _ = self.is_signed_by(&nobody);
                None
            }
        };
        Ok(())
    }
}

/// The digest under which something that counts once is remembered. Each part stands behind its
/// length, so no two share an encoding.
pub(crate) fn used(kind: &str, signer: &str, id: &str, ends_at: Timestamp) -> UsedProof {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [kind, signer, id] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    UsedProof { digest, ends_at }
}

/// A public key as it is kept.
#[must_use]
pub fn kept(key: &PublicJwk, now: Timestamp) -> ClientKey {
    ClientKey { jwk: key.to_json(), thumbprint: key.thumbprint(), bound_at: now }
}

/// What kind of key it is, for people.
#[must_use]
pub fn kind_of(key: &ClientKey) -> &'static str {
    match PublicJwk::from_json(&key.jwk).map(|key| key.algorithm()) {
        Ok(Algorithm::Es256) => "P-256 (ES256)",
        Ok(Algorithm::EdDsa) => "Ed25519 (EdDSA)",
        Ok(Algorithm::Rs256) => "RSA (RS256)",
        Err(_) => "unreadable",
    }
}

/// What the owner wants done.
#[derive(Debug)]
pub enum KeyChange {
    /// Bind this key.
    Bind(PublicJwk),
    /// Remove the key.
    Remove,
    /// Switch the secret off.
    SecretOff,
    /// Switch it on.
    SecretOn,
}

impl KeyChange {
    fn act(&self) -> KeyAct {
        match self {
            Self::Bind(_) => KeyAct::Bind,
            Self::Remove => KeyAct::Remove,
            Self::SecretOff => KeyAct::SecretOff,
            Self::SecretOn => KeyAct::SecretOn,
        }
    }
}

/// The event of an act.
fn event(act: KeyAct) -> Event {
    match act {
        KeyAct::Bind => Event::ClientKeyBound,
        KeyAct::Remove => Event::ClientKeyRemoved,
        KeyAct::SecretOff => Event::SecretSwitchedOff,
        KeyAct::SecretOn => Event::SecretSwitchedOn,
    }
}

/// Puts a key in place, and says so in the record.
async fn bind(act: &mut Act, held: &Credential, key: &ClientKey, entry: Entry) -> Result<Entry, Failure> {
    act.set_client_key(held.id, Some(key)).await?;
    let entry = entry.with("thumbprint", key.thumbprint.as_str());
    Ok(match &held.key {
        Some(before) => entry.with("replaced", before.thumbprint.as_str()),
        None => entry,
    })
}

impl App {
    /// Changes the ways in which the caller's credential proves itself. `expected` is the Client ID that
    /// the caller saw: if another is there by now, nothing is done. Tokens that were issued stay.
    ///
    /// # Errors
    /// [`Failure::ClientKey`] with the rule that refuses; the attempt is on record then. [`Failure::Conflict`].
    pub async fn change_ways_in(
        &self,
        caller: &Caller,
        change: &KeyChange,
        expected: &str,
    ) -> Result<(), Failure> {
        let what = change.act();
        let mut act = self.store.act().await?;
        // First of all, so that no token under way gets a later instant than what stops it (C-11).
        if caller.user.standing.is_super_admin() && caller.in_session().is_ok() {
            act.hold_tokens().await?;
        }
        let caller = present(self, &mut act, caller).await?;
        let held = act.held_credential(caller.user.id).await?;
        let now = self.clock.now();
        let subject = held.as_ref().map_or(caller.user.id.to_string(), |c| c.client_id.as_str().to_owned());
        let entry = Entry::done(now, caller.by(), &caller.origin, event(what), subject);
        let decision = client_keys::change(what, &caller.actor, &caller.user.standing, held.as_ref(), now);
        let held = match (decision, held) {
            (Ok(()), Some(held)) => held,
            (decision, _) => {
                let why = decision.err().unwrap_or(ClientKeyRefused::NotActive);
                act.commit(&[entry.refused(why.code())]).await?;
                return Err(why.into());
            }
        };
        if held.client_id.as_str() != expected {
            return Err(Failure::Conflict);
        }
        let gone = held.key.as_ref().map_or("", |key| key.thumbprint.as_str());
        let (entry, told) = match change {
            KeyChange::Bind(key) => {
                let key = kept(key, now);
                let replaced = held.key.is_some();
                let entry = bind(&mut act, &held, &key, entry).await?;
                (entry, CredentialChange::KeyBound { thumbprint: key.thumbprint, replaced, with_secret: false })
            }
            KeyChange::Remove => {
                act.set_client_key(held.id, None).await?;
                let told = CredentialChange::KeyRemoved { thumbprint: gone.to_owned() };
                (entry.with("thumbprint", gone), told)
            }
            KeyChange::SecretOff => {
                act.set_secret_off(held.id, Some(now)).await?;
                (entry.with("thumbprint", gone), CredentialChange::SecretOff)
            }
            KeyChange::SecretOn => {
                act.set_secret_off(held.id, None).await?;
                (entry, CredentialChange::SecretOn)
            }
        };
        let (client_id, origin) = (held.client_id.as_str(), &caller.origin);
        let letter = Letter::CredentialChanged { client_id, what: &told, origin, at: now };
        self.send(&mut act, &caller.user, &letter).await?;
        Ok(act.commit(&[entry]).await?)
    }

    /// C-14: binds the first key of a credential for whoever proved to hold its secret (`client`) and
    /// the private key (`proof`, made with it). The owner is told.
    ///
    /// # Errors
    /// [`ClientRefused`] when the credential does not work any more, or the proof was used;
    /// [`ClientKeyRefused::AlreadyBound`], which is on record then.
    pub async fn bind_first_key(
        &self,
        client: &PresentedClient,
        key: &PublicJwk,
        proof: &SignedAssertion,
        origin: &Origin,
    ) -> Result<ClientKey, NotBound> {
        let client_id = client.credential.client_id.as_str();
        if proof.client_id() != client_id || !proof.is_signed_by(key) {
            return Err(NotBound::NotPossessed);
        }
        // What is refused anyway holds no token up.
        let refused = client_keys::bind_with_secret(&client.credential).is_err();
        let mut act = self.store.act().await?;
        if !refused {
            act.hold_tokens().await?;
        }
        let now = self.clock.now();
        // As it is in this act: it may have been revoked, or switched off, since.
        let found = act.presented_clients(&[client_id]).await?.pop().ok_or(ClientRefused::Unproven)?;
        let held = &found.credential;
        match held.standing(&found.owner, now) {
            Standing::Active if held.secret_off_at.is_some() => return Err(ClientRefused::SecretOff.into()),
            Standing::Active => {}
            standing => return Err(ClientRefused::Dead(standing).into()),
        }
        let by = By::Client(client_id.to_owned());
        let entry = Entry::done(now, by, origin, Event::ClientKeyBound, client_id);
        if let Err(why) = client_keys::bind_with_secret(held) {
            act.commit(&[entry.refused(why.code())]).await?;
            return Err(Failure::from(why).into());
        }
        if act.use_proofs(&[proof.used()]).await?.is_empty() {
            return Err(ClientRefused::Replayed.into());
        }
        let key = kept(key, now);
        let entry = bind(&mut act, held, &key, entry).await?;
        let owner = act.user(held.owner).await?.ok_or(Failure::NotFound)?;
        let thumbprint = key.thumbprint.clone();
        let told = CredentialChange::KeyBound { thumbprint, replaced: false, with_secret: true };
        let letter = Letter::CredentialChanged { client_id, what: &told, origin, at: now };
        self.send(&mut act, &owner, &letter).await?;
        act.commit(&[entry]).await?;
        Ok(key)
    }

    /// Checks the signature of a client's assertion, if that is what the client gave, with the key that
    /// is bound now. Whether it is still that one is looked at in the transaction that follows.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn check_signature(&self, proof: &mut ClientProof) -> Result<(), Failure> {
        let Given::Assertion(assertion) = &mut proof.given else { return Ok(()) };
        // Boxed, so that who gives a secret does not carry room for it; a future is moved about whole.
        let looking = async { self.store.read().await?.presented_clients(&[assertion.client_id()]).await };
        let found = Box::pin(looking).await?.pop();
        assertion.check(found.as_ref())
    }
}

/// Why a key was not bound for the holder of the secret.
#[derive(Debug)]
pub enum NotBound {
    /// The proof is not made with the private key, or for another client.
    NotPossessed,
    /// The client is not accepted.
    Client(ClientRefused),
    /// A rule refuses, or the database.
    Failed(Failure),
}

impl From<ClientRefused> for NotBound {
    fn from(refused: ClientRefused) -> Self {
        Self::Client(refused)
    }
}

impl<E: Into<Failure>> From<E> for NotBound {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol9_there_is_a_key_of_nobody_for_each_algorithm() {
        for (text, algorithm) in NOBODY.iter().zip(Algorithm::ALL) {
            assert_eq!(PublicJwk::from_json(text).unwrap().algorithm(), algorithm);
        }
    }

    #[test]
    fn ids_of_two_signers_and_two_kinds_never_meet() {
        let at = Timestamp::UNIX_EPOCH;
        let all =
            [used("a", "b", "c", at), used("a", "bc", "", at), used("ab", "", "c", at), used("x", "b", "c", at)];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other.digest != one.digest));
        }
    }
}
