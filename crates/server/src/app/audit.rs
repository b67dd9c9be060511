//! Looking at the audit log, for Super Admins.

use std::collections::{BTreeSet, HashMap};

use portcullis_domain::{
    accounts::{Email, UserId},
    audit::Record,
};
use portcullis_store::{AuditFilter, AuditFound, AuditPage};
use uuid::Uuid;

use crate::{
    app::{App, Caller},
    error::Failure,
};

/// A page of the log, the latest first.
#[derive(Debug)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// E-mails of the users that occur in them, by id.
    pub emails: HashMap<String, String>,
    /// After which number a page of later ones begins, if there may be any.
    pub newer: Option<i64>,
    /// Before which number a page of earlier ones begins, if there may be any. There may be some also
    /// when this page is empty: then the log was searched back to there.
    pub older: Option<i64>,
}

impl App {
    /// A page of the audit log. In the filter a user may also be named by e-mail address.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub async fn audit_page(
        &self,
        caller: &Caller,
        mut filter: AuditFilter,
        page: AuditPage,
        limit: u32,
    ) -> Result<Page, Failure> {
        caller.super_admin()?;
        let mut tx = self.store.read().await?;
        for field in [&mut filter.by, &mut filter.subject] {
            if let Ok(email) = Email::parse(field)
                && let Some(user) = tx.user_by_email(&email).await?
            {
                *field = user.id.to_string();
            }
        }
        // One more than asked tells whether there are more.
        let AuditFound { mut records, looked_to } = tx.audit_page(&filter, page, limit + 1).await?;
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let last = records.last().filter(|_| more).map(|r| r.seq).or(looked_to);
        let first = records.first().map(|r| r.seq);
        let (newer, older) = match page {
            AuditPage::Before(seq) => (first.or(Some(seq - 1)).filter(|_| seq != i64::MAX), last),
            AuditPage::After(seq) => {
                records.reverse();
                (last, first.or(Some(seq.saturating_add(1))))
            }
        };
        let named = records.iter().flat_map(|r| [&r.by.1, &r.subject]);
        let ids: BTreeSet<UserId> = named.filter_map(|id| Uuid::try_parse(id).ok().map(UserId)).collect();
        let ids: Vec<UserId> = ids.into_iter().collect();
        let emails = tx.emails_of(&ids).await?.into_iter().map(|(id, email)| (id.to_string(), email)).collect();
        Ok(Page { records, emails, newer, older })
    }
}
