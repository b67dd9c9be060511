//! The rules of Portcullis, and nothing else: no database, no HTTP, no clock, no random source.
//! Facts and entropy come in as arguments, decisions go out as values.
//!
//! This is the index of the rules (`rules` in the book): where each is decided, and the test
//! that states it. Rules whose last word is a constraint in the database or a door's behaviour
//! name that too.
//!
//! `protocol` and a number marks what the doors promise beyond the rules; tests of one promise share its
//! number.
//!
//! | rule | decided in | stated by |
//! |---|---|---|
//! | C-1 one active credential | [`credentials::generate`]; index `c1_one_active_credential` | `c1_*` here, `contract/credentials` on both databases |
//! | C-2 Client ID and Secret | [`credentials::ClientId`], [`secret::ClientSecret`] | `the_form_of_*_never_changes` |
//! | C-3 only Super Admins | [`accounts::Standing::is_super_admin`] | `c3_*` |
//! | C-4 no federated login | [`credentials::generate`] | `c4_*` |
//! | C-5 shown once, keyed digest | [`secret::KeyedDigest`] | `neither_debug_*`, `c5_*` in `http/credentials` |
//! | C-6 3650 days | [`credentials::CREDENTIAL_LASTS`], [`credentials::Credential::standing`] | `c6_*` |
//! | C-7 revocation is final | [`credentials::revoke`] | `any_life_of_a_credential_keeps_the_rules` |
//! | C-8 only the owner revokes | [`credentials::revoke`] | `c8_*` |
//! | C-9 MFA suspends | [`credentials::Credential::standing`], [`credentials::Credential::effect`] | `c9_*` |
//! | C-10 owner's status and role suspend | [`credentials::Credential::standing`], [`credentials::Credential::effect`] | `c10_*` |
//! | C-11 dead tokens everywhere | [`tokens::TokenTerms::is_active`]; who checks without asking is told of what [`changes::Tells::of`] finds | `c11_*` here, in `http/token`, `http/introspect` and `http/changes` |
//! | C-12 recent password to generate | [`sessions::Actor::password_is_fresh`] | `c12_*` |
//! | C-13 the tab shows use | [`tokens::IssuedToken`] | `c13_*` in `http/credentials` and `contract/tokens` |
//! | C-14 one public key, bound by the owner, or once with the secret | [`client_keys::change`], [`client_keys::bind_with_secret`] | `c14_*` here and in `http/client_keys` |
//! | C-15 a way in stays | [`client_keys::change`]; constraint `c15_a_way_in_stays` | `c15_*` here, in `http/client_keys` and `contract/client_keys` |
//! | C-16 the key goes with the credential | [`credentials::Credential::standing`] | `c16_*` in `http/client_keys` |
//! | T-1 lifespan | [`tokens::ends_at`], [`tokens::LIFESPANS`], [`apis::Api::lifespan`] | `t1_*` here and in `http/apis` |
//! | T-2 client credentials grant, for one API at a time | the token endpoint, [`apis::Api::grant`] | `http/token`, `http/apis` |
//! | T-3 RFC 9068 claims | [`tokens::Claims`] | `http/token` |
//! | T-4 what a token may not | [`credentials::generate`], [`credentials::revoke`], [`accounts::manage::manage`], [`mfa::manage`], [`apis::ApiRefused::ByToken`] | `t4_*`, `a3_only_*` |
//! | T-5 a bound token is good with its key alone; an API may require it | [`tokens::Claims`], [`apis::Api::takes`] | `t5_*` here and in `http/dpop` |
//! | A-1 My Account Settings | the console | `a1_*` in `http/console`, `browser/account` |
//! | A-2 invitations, statuses, one account for each e-mail | [`accounts::manage`], [`links::Link::check`], [`accounts::Email`]; index `a2_one_account_per_email` | `a2_*` here, in `http/people`, `contract/accounts` and `contract/links` |
//! | A-3 Super Admin is a role, and one stays | [`accounts::manage::decide`], [`accounts::Role`] | `a3_*` here, in `http/people`, `http/setup` and `contract/people` |
//! | A-4 passwords | [`accounts::PasswordPolicy`] | `a4_*` |
//! | A-5 MFA | [`mfa::manage`], [`mfa::Factors::is_on`]; another's: [`accounts::manage::decide`] | `a5_*` here, in `http/mfa` and `http/people` |
//! | A-6 federated logins | [`federation::sign_in`], [`federation::may_change_links`] | `a6_*` here, in `http/federation` and `contract/federation` |
//! | A-7 the last way in | [`federation::unlink`] | `a6_an_identity_*_a7_*`, `a7_*` in `http/people` and `http/federation` |
//! | A-8 lock-out | [`accounts::locked_until`] | `a8_*` |
//! | A-9 dormant accounts | [`accounts::manage::dormant`] | `a9_*` here, in `http/people` and `contract/people` |
//! | L-1 events | [`audit::Event`] | `http/audit` |
//! | L-2 no secret in sight | [`secret::Secret`] | `neither_debug_*`, `http/canary` |
//! | L-3 chain | [`audit::Record::link`], [`audit::follow`] | `l3_*` |
//! | L-4 tokens on record | [`tokens::IssuedToken`] | `contract/tokens` |
//! | H-1 on hold nothing is issued, active, told or done | `works` in `store/src/hold.rs` | `h1_*` in `http/hold` and `contract/hold` |
//! | H-2 only the operator lifts a hold, and says what is replayed | `server/src/app/hold.rs` | `h2_*` in `http/hold` |
//! | H-3 what stops is replayed | [`hold::replayed`] | `h3_*` here and in `http/hold` |
//! | H-4 a copy is noticed | [`hold::judge`] | `h4_*` here, in `http/hold` and `contract/hold` |
//! | protocol 26 keys are published before they sign | [`keys::rotate`], [`keys::Life::state`]; indexes `protocol26_*` | `protocol26_*` here, in `http/keys` and `contract/keys` |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation))]

pub mod accounts;
pub mod apis;
pub mod audit;
pub mod changes;
pub mod client_keys;
mod closed_set;
pub mod credentials;
pub mod federation;
pub mod hold;
pub mod keys;
pub mod links;
pub mod mail;
pub mod mfa;
pub mod secret;
pub mod sessions;
pub mod tokens;
