//! Looking at the audit log, for Super Admins.

use std::collections::HashMap;

use portcullis_domain::{
    accounts::{Email, UserId},
    audit::Record,
};
use portcullis_store::{AuditFilter, AuditPage};
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
    /// Whether there are later ones.
    pub newer: bool,
    /// Whether there are earlier ones.
    pub older: bool,
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
        let mut records = tx.audit_page(&filter, page, limit + 1).await?;
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let (newer, older) = match page {
            AuditPage::Before(seq) => (seq != i64::MAX, more),
            AuditPage::After(_) => {
                records.reverse();
                (more, true)
            }
        };
        let mut emails = HashMap::new();
        for id in records.iter().flat_map(|r| [&r.by.1, &r.subject]) {
            if let Ok(uuid) = Uuid::try_parse(id)
                && !emails.contains_key(id)
                && let Some(user) = tx.user(UserId(uuid)).await?
            {
                emails.insert(id.clone(), user.email.as_str().to_owned());
            }
        }
        Ok(Page { records, emails, newer, older })
    }
}
