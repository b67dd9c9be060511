//! The claims of an access token (RFC 9068 §2.2), checked and typed. Pure: the clock is passed in.

use serde_json::Value;

use crate::{
    error::{Error, Refusal, Scheme},
    jws::{Claims, Jws, JwsError},
};

/// The longest `jti` that is taken, in bytes.
const MAX_JTI: usize = 256;

/// What every access token has to fit.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Where the status list is, as tokens name it.
    pub(crate) status_uri: String,
    /// How far clocks may be apart, in seconds.
    pub(crate) leeway: i64,
}

/// An access token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    pub(crate) scheme: Scheme,
    pub(crate) idx: u64,
    id: String,
    subject: String,
    client_id: String,
    scope: Vec<String>,
    issued_at: i64,
    expires_at: i64,
    key_thumbprint: Option<String>,
}

impl AccessToken {
    /// Its id (`jti`): what to write in a log.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whom it speaks for (`sub`).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The Client ID of the credential it was issued to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Its scopes.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scope
    }

    /// Whether it holds a scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.iter().any(|has| has == scope)
    }

    /// Asks for scopes, space separated: all of them have to be there.
    ///
    /// # Errors
    /// [`Error::Scope`].
    pub fn require_scope(&self, required: &str) -> Result<(), Error> {
        if required.split(' ').filter(|scope| !scope.is_empty()).all(|scope| self.has_scope(scope)) {
            Ok(())
        } else {
            Err(Error::Scope { scheme: self.scheme, required: required.to_owned() })
        }
    }

    /// When it was issued, in seconds since the epoch.
    #[must_use]
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// When it ends, in seconds since the epoch.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The thumbprint of the key it is bound to, if it is (RFC 9449 §6.1).
    #[must_use]
    pub fn key_thumbprint(&self) -> Option<&str> {
        self.key_thumbprint.as_deref()
    }

    /// Whether it was presented as Bearer or with DPoP.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
}

/// Reads a token and looks at its header: it is of the right type and names a key.
pub(crate) fn read(text: &str) -> Result<Jws<'_>, Refusal> {
    let jws = Jws::parse(text)?;
    if !jws.is_typ("at+jwt") {
        return Err(Refusal::Type);
    }
    if jws.kid().is_none() {
        return Err(JwsError::Header("kid").into());
    }
    Ok(jws)
}

/// Checks the claims of a token whose signature was checked.
pub(crate) fn check(claims: &Claims, scheme: Scheme, policy: &Policy, now: i64) -> Result<AccessToken, Refusal> {
    if claims.text("iss")? != policy.issuer {
        return Err(Refusal::Issuer);
    }
    if !claims.audiences()?.contains(&policy.audience.as_str()) {
        return Err(Refusal::Audience);
    }
    let expires_at = claims.date("exp")?.ok_or(JwsError::Claim("exp"))?;
    let issued_at = claims.date("iat")?.ok_or(JwsError::Claim("iat"))?;
    claims.check_times(now, policy.leeway)?;
    let id = claims.text("jti")?;
    if id.is_empty() || id.len() > MAX_JTI {
        return Err(JwsError::Claim("jti").into());
    }
    let scope = match claims.get("scope") {
        None => "",
        Some(_) => claims.text("scope")?,
    };
    Ok(AccessToken {
        scheme,
        idx: index(claims, &policy.status_uri)?,
        id: id.to_owned(),
        subject: claims.text("sub")?.to_owned(),
        client_id: claims.text("client_id")?.to_owned(),
        scope: scope.split(' ').filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect(),
        issued_at,
        expires_at,
        key_thumbprint: binding(claims)?,
    })
}

/// The place of the credential on the status list.
fn index(claims: &Claims, uri: &str) -> Result<u64, Refusal> {
    let status = claims.get("status").and_then(|status| status.get("status_list"));
    let status = status.ok_or(JwsError::Claim("status"))?;
    if status.get("uri").and_then(Value::as_str) != Some(uri) {
        return Err(JwsError::Claim("status").into());
    }
    Ok(status.get("idx").and_then(Value::as_u64).ok_or(JwsError::Claim("status"))?)
}

/// The thumbprint in `cnf` (RFC 7800 §3.1). Another confirmation may not be ignored.
fn binding(claims: &Claims) -> Result<Option<String>, Refusal> {
    let Some(cnf) = claims.get("cnf") else { return Ok(None) };
    match (cnf.as_object().map(serde_json::Map::len), cnf.get("jkt")) {
        (Some(1), Some(Value::String(jkt))) => Ok(Some(jkt.clone())),
        _ => Err(Refusal::Binding),
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
