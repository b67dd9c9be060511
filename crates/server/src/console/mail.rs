//! The outbox as a page.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
};
use portcullis_store::MailOnRecord;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::cursor,
    app::{App, Caller},
    console::{
        Answer, Asked, Nothing, Typed, dates, ok, see_other,
        view::{Dates, Frame, MailPage, MailRow, Nav, Notice},
    },
    error::Failure,
};

/// Mails on a page.
const ROWS: u32 = 50;

/// Which page, and what to say.
#[derive(Deserialize)]
pub struct Arriving {
    older: Option<String>,
    done: Option<String>,
}

fn row(mail: MailOnRecord, dates: &Dates, in_folder: bool) -> MailRow {
    let (state, at) = match (mail.sent_at, mail.next_try_at) {
        (Some(at), _) if in_folder => (("ok", "In the folder"), Some(at)),
        (Some(at), _) => (("ok", "Sent"), Some(at)),
        (None, Some(at)) if mail.tries == 0 => (("off", "Waiting"), Some(at)),
        (None, Some(at)) => (("warn", "Waiting"), Some(at)),
        (None, None) => (("bad", "Given up"), None),
    };
    MailRow {
        id: mail.id.to_string(),
        to: mail.to,
        kind: mail.kind.label(),
        queued: dates.when(mail.queued_at),
        state,
        at: at.map(|at| dates.when(at)),
        tries: mail.tries,
        problem: mail.problem,
        again: mail.sent_at.is_none(),
    }
}

/// `GET /mail`.
///
/// # Errors
/// A forged cursor, or the database's.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    let before = match &arriving.older {
        Some(text) => Some(Uuid::from_bytes(cursor::open(&app, "mail", text)?)),
        None => None,
    };
    let mut mails = app.mails(&caller, before, ROWS + 1).await?;
    let more = mails.len() > ROWS as usize;
    mails.truncate(ROWS as usize);
    let last = mails.last().filter(|_| more);
    let older = last.map(|m| format!("/mail?older={}", cursor::seal(&app, "mail", m.id.as_bytes())));
    let dates = dates(&caller.user, app.clock.now());
    let folder = app.outbox.folder().map(|f| f.display().to_string());
    ok(&MailPage {
        frame: Frame::new(&caller.user, &app.config.organization, Nav::Mail, "Mail"),
        notice: (arriving.done.as_deref() == Some("again"))
            .then(|| Notice::done("The mail is being tried again.")),
        rows: mails.into_iter().map(|m| row(m, &dates, folder.is_some())).collect(),
        folder,
        later: before.is_some(),
        older,
    })
}

/// `POST /mail/{mail}/try-again`.
///
/// # Errors
/// [`Failure::NotFound`] when it was sent meanwhile.
pub async fn try_again(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(mail): Path<String>,
    Typed(Nothing {}): Typed<Nothing>,
) -> Answer {
    let id = Uuid::try_parse(&mail).map_err(|_| Failure::NotFound)?;
    app.try_mail_again(&caller, id).await?;
    Ok(see_other("/mail?done=again"))
}
