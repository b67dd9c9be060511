//! The JSON API under `/api/v1`: for a session cookie or an access token (T-4), errors as problem
//! details, described by the OpenAPI document that is made of this code.

pub mod accounts;
pub mod apis;
pub mod audit;
pub mod credentials;
pub mod cursor;
pub mod health;
pub mod json;
pub mod keys;
pub mod openapi;
pub mod people;
pub mod problem;
pub mod sessions;

/// The most items of a page.
pub const MAX_PAGE: u32 = 200;
/// Items of a page when nothing is asked for.
pub const DEFAULT_PAGE: u32 = 50;
