//! What must hold when things break, tried out: real `portcullis` processes and real PostgreSQL clusters
//! that are killed, cut off and stepped in time, clients outside of them that write down every call they
//! make, and a checker that says whether there is an order in which all the answers make sense.
//!
//! A scenario ([`scenario`]) builds an arena ([`arena`]): servers ([`node`]), a database ([`cluster`],
//! [`proxy`]) and people with programs ([`people`]). It lets them work ([`load`]), breaks something, and
//! settles. What the clients saw ([`history`]) must be linearizable against the domain's own rules
//! ([`register`], [`check`]); what is in the database afterwards must fit it ([`ledger`]). See
//! `dev/faults` and the chapter "When things break" of the book.

pub mod arena;
pub mod check;
pub mod cluster;
pub mod history;
pub mod ledger;
pub mod load;
pub mod node;
pub mod outside;
pub mod people;
pub mod proxy;
pub mod register;
pub mod report;
pub mod scenario;
pub mod wire;
