//! The audit log as a page, with filters (L-1).

use std::{collections::HashMap, sync::Arc};

use axum::{Extension, extract::State, http::StatusCode};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use portcullis_domain::audit::{Event, Record};
use portcullis_store::{AuditFilter as StoreFilter, AuditPage as Range};
use serde::Deserialize;

use crate::{
    api::{audit::check_words, cursor},
    app::{App, Caller, audit::Page},
    console::{
        Answer, Asked, dates, page as page_with,
        view::{AuditFilter, AuditPage, AuditRow, Dates, Field, Frame, Nav, who_label},
    },
    error::Failure,
};

/// Records on a page.
const ROWS: u32 = 50;

/// What is searched for.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Search {
    event: String,
    outcome: String,
    actor: String,
    subject: String,
    from: String,
    to: String,
    older: Option<String>,
    newer: Option<String>,
}

/// The first instant of a day as typed, `days` later; `None` when nothing was typed.
fn day(text: &str, days: i64) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let start = text.parse::<Date>().and_then(|d| d.checked_add(jiff::Span::new().days(days)));
    let start = start.and_then(|d| d.to_zoned(TimeZone::UTC));
    start.map(|z| Some(z.timestamp())).map_err(|_| "Enter a day like 2026-11-23.".to_owned())
}

/// The filter as the page shows it and as the store takes it; the latter only when it can be.
fn read(search: &Search) -> (AuditFilter, Option<StoreFilter>) {
    let (from, to) = (day(&search.from, 0), day(&search.to, 1));
    let field = |value: &str, read: &Result<Option<Timestamp>, String>| Field {
        value: value.to_owned(),
        error: read.as_ref().err().cloned(),
    };
    let shown = AuditFilter {
        event: search.event.clone(),
        outcome: search.outcome.clone(),
        actor: search.actor.clone(),
        subject: search.subject.clone(),
        from: field(&search.from, &from),
        to: field(&search.to, &to),
    };
    let filter = match (from, to) {
        (Ok(from), Ok(until)) => Some(StoreFilter {
            event: search.event.clone(),
            outcome: search.outcome.clone(),
            by: search.actor.trim().to_owned(),
            subject: search.subject.trim().to_owned(),
            from,
            until,
        }),
        _ => None,
    };
    (shown, filter)
}

fn range(app: &App, search: &Search) -> Result<Range, Failure> {
    let place = |text: &str| cursor::open(app, "audit", text).map(i64::from_be_bytes);
    Ok(match (&search.older, &search.newer) {
        (Some(text), _) => Range::Before(place(text)?),
        (None, Some(text)) => Range::After(place(text)?),
        (None, None) => Range::Before(i64::MAX),
    })
}

/// The address of the page beside this one, with the same filter.
fn beside(app: &App, search: &Search, direction: &str, seq: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let fields = [
        ("event", &search.event),
        ("outcome", &search.outcome),
        ("actor", &search.actor),
        ("subject", &search.subject),
        ("from", &search.from),
        ("to", &search.to),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    query.append_pair(direction, &cursor::seal(app, "audit", &seq.to_be_bytes()));
    format!("/audit?{}", query.finish())
}

fn row(record: Record, emails: &HashMap<String, String>, dates: &Dates) -> Result<AuditRow, Failure> {
    let broken = |_| Failure::Internal(format!("audit record {}: its instant", record.seq));
    let when = dates.to_the_second(Timestamp::from_microsecond(record.at).map_err(broken)?);
    let named = |id: &str| emails.get(id).cloned();
    let (kind, by) = &record.by;
    let who = named(by).unwrap_or_else(|| who_label(kind).to_owned());
    let what = Event::from_code(&record.event).map_or_else(|| record.event.clone(), |e| e.label().to_owned());
    let (subject, subject_id) = match named(&record.subject) {
        Some(email) => (email, record.subject.clone()),
        None => (record.subject.clone(), String::new()),
    };
    let details: std::collections::BTreeMap<String, String> = serde_json::from_str(&record.details)
        .map_err(|_| Failure::Internal(format!("audit record {}: its details", record.seq)))?;
    Ok(AuditRow {
        when,
        who,
        who_id: by.clone(),
        what,
        details: details.into_iter().map(|(k, v)| (k.replace('_', " "), v)).collect(),
        subject,
        subject_id,
        refused: (record.outcome == "refused").then(|| record.reason.replace('_', " ")),
        ip: record.ip,
        user_agent: record.user_agent,
    })
}

/// `GET /audit`.
///
/// # Errors
/// A forged cursor, or the database's; a day that cannot be read is said at its field.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(search): Asked<Search>,
) -> Answer {
    let (filter, wanted) = read(&search);
    let frame = Frame::new(&caller.user, &app.config.organization, Nav::Audit, "Audit log");
    let Some(wanted) = wanted else {
        let content = AuditPage { frame, notice: None, filter, rows: Vec::new(), newer: None, older: None };
        return page_with(StatusCode::UNPROCESSABLE_ENTITY, &content);
    };
    check_words(&search.event, &search.outcome)?;
    let range = range(&app, &search)?;
    let Page { records, emails, newer, older } = app.audit_page(&caller, wanted, range, ROWS).await?;
    let newer = newer.map(|seq| beside(&app, &search, "newer", seq));
    let older = older.map(|seq| beside(&app, &search, "older", seq));
    let dates = dates(&caller.user, app.clock.now());
    let rows = records.into_iter().map(|r| row(r, &emails, &dates)).collect::<Result<_, _>>()?;
    page_with(StatusCode::OK, &AuditPage { frame, notice: None, filter, rows, newer, older })
}
