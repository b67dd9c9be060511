//! Managing other people's accounts: who may do what to whom, and what it
//! makes of them.

use jiff::{SignedDuration, Timestamp};

use super::{Role, Standing, Status, UserId};
use crate::sessions::Actor;

/// What a Super Admin does to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Sends an invited user another link.
    InviteAgain,
    /// Lets an inactive user in again.
    Activate,
    /// Keeps a user out until activated again.
    Deactivate,
    /// Closes an account for good.
    Delete,
    /// Gives the role **Super Admin** (A-3).
    GiveSuperAdmin,
    /// Takes the role **Super Admin** (A-3).
    TakeSuperAdmin,
    /// Turns off the MFA of a user who lost every second factor. There is no turning on.
    TurnMfaOff,
}

impl Act {
    /// All of them, in the order of the buttons.
    pub const ALL: [Self; 7] = [
        Self::InviteAgain,
        Self::Activate,
        Self::GiveSuperAdmin,
        Self::TakeSuperAdmin,
        Self::TurnMfaOff,
        Self::Deactivate,
        Self::Delete,
    ];
}

/// Why managing a user was refused. The text is for the person who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManageRefused {
    ///
    #[error("Only a Super Admin can manage users.")]
    NotSuperAdmin,
    /// T-4.
    #[error("An access token cannot manage users. A Super Admin has to sign in.")]
    ByToken,
    ///
    #[error("You cannot take the role Super Admin from yourself. Another Super Admin can.")]
    OwnRole,
    ///
    #[error("You cannot deactivate yourself. Another Super Admin can.")]
    OwnAccess,
    ///
    #[error("You cannot delete yourself. Another Super Admin can.")]
    OwnAccount,
    ///
    #[error("You cannot turn off your own MFA here. Do it under My Account Settings, with your second factor.")]
    OwnMfa,
    ///
    #[error("No other active Super Admin can sign in, so this one stays. Make somebody else a Super Admin first.")]
    LastSuperAdmin,
    /// Deleting is final.
    #[error("This user was deleted. That is final; invite the person anew.")]
    Deleted,
    /// There is nothing to invite to.
    #[error("This user has activated the account already.")]
    NotPending,
    /// Nothing to activate.
    #[error("Only an inactive user can be activated here. Who was invited activates with the link in the mail.")]
    NotInactive,
    /// Nothing to deactivate.
    #[error("Only an active user can be deactivated.")]
    NotActive,
    /// The role is there.
    #[error("This user is a Super Admin already.")]
    AlreadySuperAdmin,
    /// The role is not there.
    #[error("This user is not a Super Admin.")]
    NotASuperAdmin,
    /// MFA is off.
    #[error("This user has no MFA turned on.")]
    MfaIsOff,
}

impl ManageRefused {
    /// The word in the API and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSuperAdmin => "not_super_admin",
            Self::ByToken => "not_with_a_token",
            Self::OwnRole => "own_role",
            Self::OwnAccess => "own_access",
            Self::OwnAccount => "own_account",
            Self::OwnMfa => "own_mfa",
            Self::LastSuperAdmin => "last_super_admin",
            Self::Deleted => "deleted",
            Self::NotPending => "not_pending",
            Self::NotInactive => "not_inactive",
            Self::NotActive => "not_active",
            Self::AlreadySuperAdmin => "already_super_admin",
            Self::NotASuperAdmin => "not_a_super_admin",
            Self::MfaIsOff => "mfa_is_off",
        }
    }

    /// Whether it is about who asks; else it is about how the user stands at the moment.
    #[must_use]
    pub fn is_about_the_actor(self) -> bool {
        matches!(
            self,
            Self::NotSuperAdmin
                | Self::ByToken
                | Self::OwnRole
                | Self::OwnAccess
                | Self::OwnAccount
                | Self::OwnMfa
        )
    }
}

/// may `actor`, whose facts are `acting`, manage users at all, and so invite one?
///
/// # Errors
/// The rule that refuses.
pub fn manage(actor: &Actor, acting: &Standing) -> Result<(), ManageRefused> {
    if !acting.is_super_admin() {
        return Err(ManageRefused::NotSuperAdmin);
    }
    match actor {
        Actor::Token { .. } => Err(ManageRefused::ByToken),
        Actor::Session { .. } => Ok(()),
    }
}

/// may `actor`, whose facts are `acting`, do `act` to the user `id`, whose facts are
/// `target`? The answer is what the user's facts are afterwards. `others` is how many other active
/// Super Admins can sign in, read in the same transaction as all the rest.
///
/// # Errors
/// The first rule that refuses.
pub fn decide(
    act: Act,
    (actor, acting): (&Actor, &Standing),
    (id, target): (UserId, &Standing),
    others: u64,
    now: Timestamp,
) -> Result<Standing, ManageRefused> {
    manage(actor, acting)?;
    if target.status.0 == Status::Deleted {
        return Err(ManageRefused::Deleted);
    }
    if actor.user() == id {
        match act {
            Act::TakeSuperAdmin => return Err(ManageRefused::OwnRole),
            Act::Deactivate => return Err(ManageRefused::OwnAccess),
            Act::Delete => return Err(ManageRefused::OwnAccount),
            Act::TurnMfaOff => return Err(ManageRefused::OwnMfa),
            Act::InviteAgain | Act::Activate | Act::GiveSuperAdmin => {}
        }
    }
    let after = afterwards(act, target, now)?;
    if target.is_super_admin() && !after.is_super_admin() && others == 0 {
        return Err(ManageRefused::LastSuperAdmin);
    }
    Ok(after)
}

/// What an act makes of a user who is not deleted.
fn afterwards(act: Act, target: &Standing, now: Timestamp) -> Result<Standing, ManageRefused> {
    let (role, status) = (target.role.0, target.status.0);
    let mut after = target.clone();
    match act {
        Act::InviteAgain if status != Status::Pending => return Err(ManageRefused::NotPending),
        Act::InviteAgain => {}
        Act::Activate if status != Status::Inactive => return Err(ManageRefused::NotInactive),
        Act::Activate => after.status = (Status::Active, now),
        Act::Deactivate if status != Status::Active => return Err(ManageRefused::NotActive),
        Act::Deactivate => after.status = (Status::Inactive, now),
        Act::Delete => after.status = (Status::Deleted, now),
        Act::GiveSuperAdmin if role == Role::SuperAdmin => return Err(ManageRefused::AlreadySuperAdmin),
        Act::GiveSuperAdmin => after.role = (Role::SuperAdmin, now),
        Act::TakeSuperAdmin if role != Role::SuperAdmin => return Err(ManageRefused::NotASuperAdmin),
        Act::TakeSuperAdmin => after.role = (Role::User, now),
        Act::TurnMfaOff if target.mfa_since.is_none() => return Err(ManageRefused::MfaIsOff),
        Act::TurnMfaOff => after.mfa_since = None,
    }
    Ok(after)
}

/// what becomes of a user who has not signed in for `limit`; `None` when nothing does. An
/// account counts from its last sign-in, or from when it became active if that is later. A Super Admin
/// stays when no other active one can sign in; `others` is how many can.
#[must_use]
pub fn dormant(
    standing: &Standing,
    signed_in_at: Option<Timestamp>,
    others: u64,
    limit: SignedDuration,
    now: Timestamp,
) -> Option<Standing> {
    let (status, since) = standing.status;
    let seen = signed_in_at.map_or(since, |at| at.max(since));
    let is_last = standing.is_super_admin() && others == 0;
    (status == Status::Active && seen + limit <= now && !is_last)
        .then(|| Standing { status: (Status::Inactive, now), ..standing.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Opened;
    use uuid::Uuid;

    const MARIA: UserId = UserId(Uuid::from_u128(1));
    const ANA: UserId = UserId(Uuid::from_u128(2));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn standing(role: Role, status: Status) -> Standing {
        Standing { role: (role, at(0)), status: (status, at(0)), mfa_since: None, has_password: true }
    }

    fn session(user: UserId) -> Actor {
        Actor::Session { user, opened: Opened::Password, password_at: None }
    }

    fn by_maria(act: Act, id: UserId, target: &Standing, others: u64) -> Result<Standing, ManageRefused> {
        let maria = standing(Role::SuperAdmin, Status::Active);
        decide(act, (&session(MARIA), &maria), (id, target), others, at(9))
    }

    #[test]
    fn a3_only_an_active_super_admin_in_a_session_manages_users() {
        let target = standing(Role::User, Status::Active);
        for (role, status) in [
            (Role::User, Status::Active),
            (Role::SuperAdmin, Status::Inactive),
            (Role::SuperAdmin, Status::Pending),
            (Role::SuperAdmin, Status::Deleted),
        ] {
            let acting = standing(role, status);
            assert_eq!(manage(&session(MARIA), &acting), Err(ManageRefused::NotSuperAdmin));
            for act in Act::ALL {
                let decided = decide(act, (&session(MARIA), &acting), (ANA, &target), 2, at(9));
                assert_eq!(decided, Err(ManageRefused::NotSuperAdmin), "{act:?}");
            }
        }
        let maria = standing(Role::SuperAdmin, Status::Active);
        let token = Actor::Token { owner: MARIA };
        assert_eq!(manage(&session(MARIA), &maria), Ok(()));
        assert_eq!(manage(&token, &maria), Err(ManageRefused::ByToken), "T-4");
        for act in Act::ALL {
            let decided = decide(act, (&token, &maria), (ANA, &target), 2, at(9));
            assert_eq!(decided, Err(ManageRefused::ByToken), "{act:?}");
        }
    }

    #[test]
    fn a3_nobody_takes_the_role_or_the_access_from_themselves() {
        let mut me = standing(Role::SuperAdmin, Status::Active);
        me.mfa_since = Some(at(1));
        for (act, why) in [
            (Act::TakeSuperAdmin, ManageRefused::OwnRole),
            (Act::Deactivate, ManageRefused::OwnAccess),
            (Act::Delete, ManageRefused::OwnAccount),
            (Act::TurnMfaOff, ManageRefused::OwnMfa),
        ] {
            assert_eq!(by_maria(act, MARIA, &me, 5), Err(why));
        }
    }

    #[test]
    fn a3_the_last_active_super_admin_stays_one() {
        let ana = standing(Role::SuperAdmin, Status::Active);
        for act in [Act::TakeSuperAdmin, Act::Deactivate, Act::Delete] {
            assert_eq!(by_maria(act, ANA, &ana, 0), Err(ManageRefused::LastSuperAdmin), "{act:?}");
            assert!(by_maria(act, ANA, &ana, 1).is_ok(), "{act:?}");
        }
        let inactive = standing(Role::SuperAdmin, Status::Inactive);
        assert!(by_maria(Act::TakeSuperAdmin, ANA, &inactive, 0).is_ok(), "who is inactive does not count");
    }

    #[test]
    fn a2_a3_a5_each_act_fits_some_states_and_changes_one_thing() {
        let mfa = Standing { mfa_since: Some(at(3)), ..standing(Role::User, Status::Active) };
        let user = |status| standing(Role::User, status);
        for (act, target, expected) in [
            (Act::InviteAgain, user(Status::Pending), Ok(user(Status::Pending))),
            (Act::InviteAgain, user(Status::Active), Err(ManageRefused::NotPending)),
            (Act::InviteAgain, user(Status::Inactive), Err(ManageRefused::NotPending)),
            (Act::Activate, user(Status::Pending), Err(ManageRefused::NotInactive)),
            (Act::Activate, user(Status::Active), Err(ManageRefused::NotInactive)),
            (Act::Deactivate, user(Status::Pending), Err(ManageRefused::NotActive)),
            (Act::Deactivate, user(Status::Inactive), Err(ManageRefused::NotActive)),
            (Act::TakeSuperAdmin, user(Status::Active), Err(ManageRefused::NotASuperAdmin)),
            (Act::TurnMfaOff, user(Status::Active), Err(ManageRefused::MfaIsOff)),
            (Act::TurnMfaOff, mfa, Ok(user(Status::Active))),
        ] {
            assert_eq!(by_maria(act, ANA, &target, 0), expected, "{act:?} {target:?}");
        }
        let there = by_maria(Act::Activate, ANA, &user(Status::Inactive), 0).unwrap();
        assert_eq!(there.status, (Status::Active, at(9)));
        for status in [Status::Pending, Status::Active, Status::Inactive] {
            let made = by_maria(Act::GiveSuperAdmin, ANA, &user(status), 0).unwrap();
            assert_eq!((made.role, made.status), ((Role::SuperAdmin, at(9)), (status, at(0))));
            assert_eq!(by_maria(Act::GiveSuperAdmin, ANA, &made, 0), Err(ManageRefused::AlreadySuperAdmin));
            let gone = by_maria(Act::Delete, ANA, &user(status), 0).unwrap();
            assert_eq!(gone.status, (Status::Deleted, at(9)));
        }
    }

    #[test]
    fn a2_deleting_is_final() {
        let gone = standing(Role::User, Status::Deleted);
        for act in Act::ALL {
            assert_eq!(by_maria(act, ANA, &gone, 2), Err(ManageRefused::Deleted), "{act:?}");
        }
    }

    #[test]
    fn a9_who_has_not_signed_in_for_so_long_is_deactivated_but_not_the_last_super_admin() {
        let limit = SignedDuration::from_hours(90 * 24);
        let days = |n: i64| at(n * 86_400);
        let user = standing(Role::User, Status::Active);
        assert!(dormant(&user, None, 0, limit, days(90)).is_some(), "never, since it became active");
        assert!(dormant(&user, None, 0, limit, days(89)).is_none());
        assert!(dormant(&user, Some(days(1)), 0, limit, days(90)).is_none());
        let again = Standing { status: (Status::Active, days(50)), ..user.clone() };
        assert!(dormant(&again, Some(days(1)), 0, limit, days(139)).is_none(), "activated again counts anew");
        assert!(dormant(&again, Some(days(1)), 0, limit, days(140)).is_some());
        let admin = standing(Role::SuperAdmin, Status::Active);
        assert!(dormant(&admin, None, 0, limit, days(1000)).is_none(), "A-3");
        let after = dormant(&admin, None, 1, limit, days(1000)).unwrap();
        assert_eq!((after.status, after.role), ((Status::Inactive, days(1000)), admin.role));
        for status in [Status::Pending, Status::Inactive, Status::Deleted] {
            assert!(dormant(&standing(Role::User, status), None, 0, limit, days(1000)).is_none());
        }
    }
}
