//! What is told to those who check tokens without asking (C-11): the status list, as it is; the feed,
//! as it happens.
//!
//! Neither keeps a truth of its own. Both are read from the audit log, whose numbers are in the order
//! of the commits on every node, and both say nothing rather than something old.

pub mod feed;
pub mod follower;
pub mod list;

/// The most changes that are read at once.
const PAGE: u32 = 500;
