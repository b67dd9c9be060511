//! The audit log as a page (L-1).

use askama::Template;
use portcullis_domain::audit::Event;

use super::{Field, Frame, Nav, Notice, When};

/// What the log is searched for, as typed. The names are those of the query.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The code of an event, or empty.
    pub event: String,
    /// `done`, `refused`, or empty.
    pub outcome: String,
    /// Who did it, or empty.
    pub actor: String,
    /// To what it was done, or empty.
    pub subject: String,
    /// The first day (`YYYY-MM-DD`, UTC), or empty.
    pub from: Field,
    /// The last day, included (`YYYY-MM-DD`, UTC), or empty.
    pub to: Field,
}

impl AuditFilter {
    /// Whether a day cannot be read, so that nothing was searched.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.from.error.is_some() || self.to.error.is_some()
    }

    /// Whether everything is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.event, &self.outcome, &self.actor, &self.subject, &self.from.value, &self.to.value]
            .iter()
            .all(|f| f.is_empty())
    }
}

/// A record of the log.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// When, to the second.
    pub when: When,
    /// Who: a name or an e-mail, or the words of [`who_label`].
    pub who: String,
    /// The id of who, or empty.
    pub who_id: String,
    /// What, from [`Event::label`].
    pub what: String,
    /// What changed, by name.
    pub details: Vec<(String, String)>,
    /// To what: a name, or the id itself; may be empty.
    pub subject: String,
    /// The id of the subject, when `subject` is a name; else empty.
    pub subject_id: String,
    /// `None` when it was done; the reason (may be empty) when it was refused.
    pub refused: Option<String>,
    /// The address; empty at the command line.
    pub ip: String,
    /// The program.
    pub user_agent: String,
}

/// The words for a kind of actor, as [`portcullis_domain::audit::By::parts`] names it.
#[must_use]
pub fn who_label(kind: &str) -> &'static str {
    match kind {
        "user" => "User",
        "client" => "Program",
        "operator" => "Operator",
        "server" => "Server",
        _ => "Not signed in",
    }
}

/// `GET /audit`.
#[derive(Debug, Clone, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// What is searched for.
    pub filter: AuditFilter,
    /// The records, newest first.
    pub rows: Vec<AuditRow>,
    /// The address of the page of newer ones.
    pub newer: Option<String>,
    /// The address of the page of older ones.
    pub older: Option<String>,
}
