//! Second factors from outside (A-5, A-8, C-9; protocol 30, 36 to 39): codes of an app made by an
//! implementation of this suite's own, passkeys by an authenticator of its own.

mod adding;
pub mod authenticator;
mod lock_out;
mod passkeys;
mod settings;
mod sign_in;
pub mod tab;
mod terminal;

/// A server that people reach by a name: passkeys need one.
pub const NAMED: [(&str, &str); 1] = [("public_url", "http://localhost:{port}")];

/// Makes each `async fn(World)` a test on SQLite and a test on PostgreSQL, at a server with a name.
macro_rules! on_both_named {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::sqlite(&$crate::mfa::NAMED).await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::postgres(&$crate::mfa::NAMED).await).await; })*
        }
    };
}
use on_both_named;
