//! `/api/v1/audit`: the audit log, the latest first.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Extension, Json, extract::State};
use jiff::Timestamp;
use portcullis_domain::{
    accounts::Invalid,
    audit::{Event, Record},
};
use portcullis_store::{AuditFilter, AuditPage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{accounts::page_size, cursor, json::Params, problem::Problem},
    app::{App, Caller},
    error::Failure,
};

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only this event, like `credential.generate`.
    #[serde(default)]
    event: String,
    /// Only `done` or `refused`.
    #[serde(default)]
    outcome: String,
    /// Only acts of this actor: a user's id or e-mail address, or a Client ID.
    #[serde(default)]
    actor: String,
    /// Only acts on this subject.
    #[serde(default)]
    subject: String,
    /// Only records from this instant on (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Only records before this instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many, 1 to 200 (50 when absent).
    limit: Option<u32>,
}

/// A record.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Its number, without gaps.
    pub seq: i64,
    /// When it happened (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What happened.
    pub event: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The kind of actor: `user`, `client`, `stranger`, `operator`, `server`.
    pub actor_kind: String,
    /// The actor's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// What it was done to.
    pub subject: String,
    /// The address the request came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The program it came from, as it names itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What changed.
    pub details: BTreeMap<String, String>,
}

impl TryFrom<Record> for AuditView {
    type Error = Failure;
    fn try_from(r: Record) -> Result<Self, Failure> {
        let broken = |what: &str| Failure::Internal(format!("audit record {}: {what}", r.seq));
        Ok(Self {
            at: Timestamp::from_microsecond(r.at).map_err(|_| broken("its instant"))?,
            details: serde_json::from_str(&r.details).map_err(|_| broken("its details"))?,
            seq: r.seq,
            event: r.event,
            outcome: r.outcome,
            reason: r.reason,
            actor_kind: r.by.0,
            actor: r.by.1,
            subject: r.subject,
            ip: r.ip,
            user_agent: r.user_agent,
        })
    }
}

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLogPage {
    /// The records, the latest first. With a filter there may be fewer than asked for, or none, and a
    /// next page all the same.
    pub records: Vec<AuditView>,
    /// The cursor of the next page, with older records; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Words of the filter that are not among those there are.
pub(crate) fn check_words(event: &str, outcome: &str) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if !event.is_empty() && Event::from_code(event).is_none() {
        wrong.push(Invalid { field: "event", message: "There is no such event.".to_owned() });
    }
    if !["", "done", "refused"].contains(&outcome) {
        wrong.push(Invalid { field: "outcome", message: "Give done or refused.".to_owned() });
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Invalid(wrong)) }
}

/// The audit log.
///
/// # Errors
/// 403 for callers that are not Super Admins or lack `audit:read`.
#[utoipa::path(get, path = "/api/v1/audit", tag = "Audit", operation_id = "audit", params(AuditQuery),
    responses((status = 200, body = AuditLogPage), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem)),
    security(("session" = []), ("access_token" = ["audit:read"])))]
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditLogPage>, Problem> {
    let limit = page_size(query.limit)?;
    check_words(&query.event, &query.outcome)?;
    let before = match &query.cursor {
        Some(text) => i64::from_be_bytes(cursor::open(&app, "audit", text).map_err(Failure::from)?),
        None => i64::MAX,
    };
    let filter = AuditFilter {
        event: query.event,
        outcome: query.outcome,
        by: query.actor,
        subject: query.subject,
        from: query.from,
        until: query.until,
    };
    let page = app.audit_page(&caller, filter, AuditPage::Before(before), limit).await?;
    let next = page.older.map(|seq| cursor::seal(&app, "audit", &seq.to_be_bytes()));
    let records = page.records.into_iter().map(AuditView::try_from).collect::<Result<_, _>>()?;
    Ok(Json(AuditLogPage { records, next }))
}
