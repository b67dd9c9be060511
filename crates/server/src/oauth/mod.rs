//! The OAuth 2.0 door: one file per endpoint, its checks in the order of the RFC.

pub mod bind_key;
pub mod client;
pub mod error;
pub mod form;
pub mod introspect;
pub mod jwks;
pub mod metadata;
pub mod revoke;
pub mod token;

/// Where the metadata of the product's own API is (RFC 9728 §3.1): the well-known name in front of
/// the resource's path.
pub const RESOURCE_METADATA_PATH: &str = "/.well-known/oauth-protected-resource/api/v1";
