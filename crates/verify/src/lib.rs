//! Checks the access tokens of a Portcullis server in the API that receives them.
//!
//! Without features this is the offline core, which does no I/O and reads no clock:
//! - [`jwk`]: public keys, from a JWK or a PEM, with their thumbprints (RFC 7517, 7638, 8037);
//! - [`jws`]: signed tokens in compact serialisation, read strictly (RFC 7515, 7519, 8725);
//! - [`dpop`]: proofs of possession (RFC 9449).
#![deny(missing_docs)]

pub mod dpop;
mod json;
pub mod jwk;
pub mod jws;
