//! What can go wrong for whoever asked, and the one place that knows status codes.
//!
//! Use-cases answer with a [`Failure`]. Its public words go to the caller; what happened inside
//! (a database's message) goes to the log and nowhere else.

use axum::http::StatusCode;
use portcullis_domain::{
    accounts::{Invalid, manage::ManageRefused},
    apis::ApiRefused,
    client_keys::ClientKeyRefused,
    credentials::{GenerateRefused, RevokeRefused},
    federation::FederationRefused,
    hold::LiftRefused,
    keys::KeyRefused,
    links::LinkRefused,
    mfa::MfaRefused,
};
use portcullis_store::{MasterKeyError, StoreError};

use crate::app::dpop::ProofRefused;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody is signed in, or the session is over.
    #[error("Sign in first.")]
    NotSignedIn,
    /// The access token is not active, or not one.
    #[error("The access token is not valid: it has ended, was revoked, or was not issued here. Request another.")]
    InvalidToken,
    /// The proof that came with a bound token is not right (RFC 9449 §7.1).
    #[error(transparent)]
    InvalidProof(#[from] ProofRefused),
    /// E-mail and password do not belong together. One answer for every reason (protocol 37).
    #[error("The e-mail address or the password is not right.")]
    WrongPassword,
    /// The first factor is right, and a second one is needed.
    #[error("Enter a code of your authenticator app, or one of your recovery codes.")]
    SecondFactorNeeded,
    /// The second factor is not right: one answer for every kind and reason.
    #[error("This is not right, or it was used already. Wait for the next code of your app, or use another way.")]
    WrongCode,
    /// The passkey does not sign in: unknown, not allowed alone, or not proven.
    #[error("This passkey does not sign you in. Sign in with your e-mail address and password.")]
    WrongPasskey,
    /// What was begun in this browser is over.
    #[error("This took too long, was done already, or was begun in another browser. Begin again.")]
    StepOver,
    /// Second factors were not changed.
    #[error(transparent)]
    Mfa(#[from] MfaRefused),
    /// The password is right, but the account is not active.
    #[error("This account is not active. Ask a Super Admin to activate it.")]
    NotActive,
    /// Too many failures; the seconds until the next attempt.
    #[error("Too many attempts. Try again in {}.", wait(*.0))]
    Locked(i64),
    /// Only for Super Admins (C-3).
    #[error("Only a Super Admin can do this.")]
    NotSuperAdmin,
    /// Only for the owner of the thing (C-3, C-8).
    #[error("Only its owner can do this.")]
    NotOwner,
    /// The token lacks the scope (RFC 6750 §3.1).
    #[error("The access token does not have the scope {0}.")]
    InsufficientScope(&'static str),
    /// The caller has no credential.
    #[error("You have no credential. Generate one first.")]
    NoCredential,
    /// There is no such thing, or not for this caller.
    #[error("There is nothing here.")]
    NotFound,
    /// What was sent is not right; each field with what to do.
    #[error("{}", .0.first().map_or("Something in the request is not right.", |i| i.message.as_str()))]
    Invalid(Vec<Invalid>),
    /// Generating was refused.
    #[error(transparent)]
    Generate(#[from] GenerateRefused),
    /// Revoking was refused.
    #[error(transparent)]
    Revoke(#[from] RevokeRefused),
    /// The ways in of a credential were not changed (C-14, C-15).
    #[error(transparent)]
    ClientKey(#[from] ClientKeyRefused),
    /// Managing a user was refused.
    #[error(transparent)]
    Manage(#[from] ManageRefused),
    /// A link sent by mail opens nothing.
    #[error(transparent)]
    Link(#[from] LinkRefused),
    /// A federated login, or a link, was refused.
    #[error(transparent)]
    Federation(#[from] FederationRefused),
    /// An API was not managed.
    #[error(transparent)]
    Api(#[from] ApiRefused),
    /// Nothing was done to a signing key.
    #[error(transparent)]
    Key(#[from] KeyRefused),
    /// Set-up has been done, or the link is not right.
    #[error("This set-up link is not valid. The first Super Admin may have been made already: sign in.")]
    SetUpOver,
    /// Too much at once; nothing was done.
    #[error("The server is busy. Nothing was changed; try again in a few seconds.")]
    Busy,
    /// The database did not do it; nothing was done.
    #[error("The server cannot reach its database. Nothing was changed; try again in a few seconds.")]
    Unavailable(#[source] StoreError),
    /// The commit was not answered.
    #[error(
        "The server lost its database while saving. It may or may not have happened: look before you repeat it."
    )]
    Unknown(#[source] StoreError),
    /// The database is on hold (H-1).
    #[error(
        "This server is on hold: its database may be older than what was acknowledged, so nothing works until the \
         operator has said what was stopped since. Whoever runs it sees the reason with `portcullis hold show`."
    )]
    OnHold,
    /// The hold was not lifted.
    #[error(transparent)]
    Lift(#[from] LiftRefused),
    /// Somebody else was first.
    #[error("Somebody else changed this at the same time. Look again and repeat it if it is still needed.")]
    Conflict,
    /// A defect, or a broken database. The log has what happened.
    #[error("Something went wrong on the server. It has been logged; nothing was changed.")]
    Internal(String),
}

/// How long to wait, in words.
fn wait(seconds: i64) -> String {
    match seconds {
        ..=1 => "1 second".to_owned(),
        2..=119 => format!("{seconds} seconds"),
        _ => format!("{} minutes", (seconds + 59) / 60),
    }
}

impl Failure {
    /// One field that is not right.
    pub fn field(invalid: Invalid) -> Self {
        Self::Invalid(vec![invalid])
    }

    /// The status code. This is the only table of them.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn
            | Self::InvalidToken
            | Self::InvalidProof(_)
            | Self::WrongPassword
            | Self::WrongCode
            | Self::WrongPasskey
            | Self::StepOver => StatusCode::UNAUTHORIZED,
            Self::Mfa(MfaRefused::NotOn | MfaRefused::AppAlready | MfaRefused::Gone)
            | Self::Mfa(MfaRefused::TooManyPasskeys | MfaRefused::NoPasskey | MfaRefused::SuspendsCredential) => {
                StatusCode::CONFLICT
            }
            Self::SecondFactorNeeded
            | Self::NotActive
            | Self::NotSuperAdmin
            | Self::NotOwner
            | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::Locked(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound | Self::NoCredential | Self::SetUpOver => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Generate(GenerateRefused::AlreadyActive) | Self::Conflict => StatusCode::CONFLICT,
            Self::Revoke(RevokeRefused::NothingToRevoke) => StatusCode::NOT_FOUND,
            Self::ClientKey(why) if why.is_about_the_credential() => StatusCode::CONFLICT,
            Self::Manage(why) if !why.is_about_the_actor() => StatusCode::CONFLICT,
            Self::Federation(
                FederationRefused::LinkedElsewhere
                | FederationRefused::LinkedAlready
                | FederationRefused::NoSuperAdminLeft,
            ) => StatusCode::CONFLICT,
            Self::Federation(FederationRefused::Busy | FederationRefused::Unreachable) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Generate(_) | Self::Revoke(_) | Self::ClientKey(_) | Self::Manage(_) => StatusCode::FORBIDDEN,
            Self::Mfa(_) | Self::Federation(_) => StatusCode::FORBIDDEN,
            Self::Api(ApiRefused::Own | ApiRefused::TooManyKeys) => StatusCode::CONFLICT,
            Self::Api(ApiRefused::ByToken) => StatusCode::FORBIDDEN,
            Self::Key(_) | Self::Lift(_) => StatusCode::CONFLICT,
            Self::Link(LinkRefused::Unknown) => StatusCode::NOT_FOUND,
            Self::Link(_) => StatusCode::GONE,
            Self::Busy | Self::Unavailable(_) | Self::Unknown(_) | Self::OnHold => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSignedIn => "not_signed_in",
            Self::InvalidToken => "invalid_token",
            Self::InvalidProof(_) => "invalid_dpop_proof",
            Self::WrongPassword => "wrong_password",
            Self::SecondFactorNeeded => "second_factor_needed",
            Self::WrongCode => "wrong_code",
            Self::WrongPasskey => "wrong_passkey",
            Self::StepOver => "step_over",
            Self::Mfa(why) => why.code(),
            Self::NotActive => "not_active",
            Self::Locked(_) => "locked",
            Self::NotSuperAdmin => "not_super_admin",
            Self::NotOwner => "not_owner",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::NotFound => "not_found",
            Self::NoCredential => "no_credential",
            Self::Invalid(_) => "invalid",
            Self::Generate(why) => why.code(),
            Self::Revoke(why) => why.code(),
            Self::ClientKey(why) => why.code(),
            Self::Manage(why) => why.code(),
            Self::Link(why) => why.code(),
            Self::Federation(why) => why.code(),
            Self::Api(why) => why.code(),
            Self::Key(why) => why.code(),
            Self::Lift(why) => why.code(),
            Self::SetUpOver => "set_up_over",
            Self::OnHold => "on_hold",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "outcome_unknown",
            Self::Conflict => "conflict",
            Self::Internal(_) => "internal",
        }
    }

    /// Seconds after which it makes sense to try again, for `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<i64> {
        match self {
            Self::Locked(seconds) => Some((*seconds).max(1)),
            Self::Busy | Self::Unavailable(_) | Self::Unknown(_) => Some(2),
            Self::OnHold => Some(30),
            _ => None,
        }
    }

    /// Writes to the log what the caller is not told.
    pub fn log(&self) {
        match self {
            Self::Unavailable(error) | Self::Unknown(error) => tracing::error!(%error, "the database failed"),
            Self::Internal(what) => tracing::error!(%what, "internal error"),
            _ => {}
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::field(invalid)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::Unknown(_) => Self::Unknown(error),
            StoreError::Conflict(_) => Self::Conflict,
            StoreError::OnHold => Self::OnHold,
            StoreError::Corrupt(what) => Self::Internal(what),
        }
    }
}

impl From<MasterKeyError> for Failure {
    fn from(error: MasterKeyError) -> Self {
        Self::Internal(error.to_string())
    }
}
