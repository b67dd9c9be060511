//! Checks the access tokens of a Portcullis server in the API that receives them: offline, and yet
//! within a second of a revocation.
//!
//! Start one [`Verifier`] for your API and ask it about every request, or put a [`VerifyLayer`] before
//! your routes. It reads the server's keys and keeps them fresh; it follows the server's feed of
//! revocations with the API's own key, and asks for the status list while it cannot.
//!
//! # Features
//! `client` (default) is the [`Verifier`], and needs tokio. `tower` (default) is the [`VerifyLayer`].
//! Without either this is the offline core, which does no I/O and reads no clock:
//! - [`jwk`]: public keys, from a JWK or a PEM, with their thumbprints (RFC 7517, 7638, 8037);
//! - [`jws`]: signed tokens in compact serialisation, read strictly (RFC 7515, 7519, 8725);
//! - [`dpop`]: proofs of possession (RFC 9449).
#![cfg_attr(not(feature = "tower"), allow(rustdoc::broken_intra_doc_links))]
#![deny(missing_docs)]

#[cfg(feature = "client")]
mod clock;
pub mod dpop;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod feed;
#[cfg(feature = "client")]
mod fetch;
mod json;
pub mod jwk;
pub mod jws;
#[cfg(feature = "client")]
mod keys;
#[cfg(feature = "client")]
mod knowledge;
#[cfg(feature = "tower")]
mod layer;
#[cfg(feature = "client")]
mod list;
#[cfg(feature = "client")]
mod replay;
#[cfg(feature = "client")]
mod sse;
#[cfg(feature = "client")]
mod state;
#[cfg(feature = "client")]
mod token;
#[cfg(feature = "client")]
mod verifier;

#[cfg(feature = "client")]
pub use error::{Challenge, Error, ProofRefusal, Refusal, Scheme, Unavailable};
#[cfg(feature = "client")]
pub use fetch::FetchError;
#[cfg(feature = "client")]
pub use knowledge::WhenStale;
#[cfg(feature = "tower")]
pub use layer::{Verify, VerifyLayer};
#[cfg(feature = "client")]
pub use token::AccessToken;
#[cfg(feature = "client")]
pub use verifier::{Builder, Freshness, Request, StartError, Undecided, Verifier};
