//! Sending what was queued: over SMTP, or into a folder while there is no mail server. It runs
//! beside the requests, so no request waits for a mail or fails because of one. A mail is leased
//! before it is sent, so of many nodes one sends it; who dies while sending leaves it to be sent
//! again, under the same Message-ID.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use portcullis_domain::{
    audit::printable,
    secret::{ExposeSecret, Secret},
};
use portcullis_store::{DueMail, MailOnRecord, Purpose};
use tokio::{
    io::AsyncWriteExt,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use uuid::Uuid;

use crate::{
    app::{App, Caller},
    config::{Config, MailWay},
    error::Failure,
};

/// How long one try may take before it is given up.
const TRY: Duration = Duration::from_secs(60);
/// How long a mail is nobody else's: longer than a try and its two commits.
const LEASE: SignedDuration = SignedDuration::from_secs(150);
/// The wait after each failed try, in minutes. After the last the mail is given up, a day later.
const WAITS: [i64; 8] = [1, 5, 30, 120, 240, 360, 360, 360];
/// Looks for due mails after something was queued here: its commit may still be under way.
const AFTER_QUEUING: [u64; 4] = [20, 100, 400, 1500];
/// Looks at other times: another node may have queued something.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Wishes for new passwords that are answered at the same time.
const RESETS: usize = 64;

/// How mails leave.
pub struct Outbox {
    queued: Notify,
    from: Mailbox,
    way: Way,
    resets: Arc<Semaphore>,
}

enum Way {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Folder(PathBuf),
}

/// Why a try failed.
struct Problem {
    /// For the page of the outbox.
    text: String,
    /// Whether the mail itself is the reason, so that trying again is of no use.
    hopeless: bool,
    /// Whether the mail server cannot be reached, so that the next mail need not be tried now.
    unreachable: bool,
}

impl Problem {
    fn hopeless(text: impl Into<String>) -> Self {
        Self { text: text.into(), hopeless: true, unreachable: false }
    }

    fn passing(text: impl Into<String>, unreachable: bool) -> Self {
        Self { text: text.into(), hopeless: false, unreachable }
    }
}

impl Outbox {
    /// By the configuration.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let way = match &config.mail.way {
            MailWay::Folder(folder) => Way::Folder(folder.clone()),
            MailWay::Smtp(url) => {
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
                    // The library's text may quote the URL, which holds the password.
                    .map_err(|_| Failure::Internal("the mail transport could not be made".to_owned()))?;
                Way::Smtp(Box::new(transport.timeout(Some(Duration::from_secs(20))).build()))
            }
        };
        Ok(Self {
            queued: Notify::new(),
            from: config.mail.from.clone(),
            way,
            resets: Arc::new(Semaphore::new(RESETS)),
        })
    }

    /// A place among the wishes for new passwords that are being answered.
    ///
    /// # Errors
    /// [`Failure::Busy`] when there are too many.
    pub(crate) fn place_for_reset(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.resets).try_acquire_owned().map_err(|_| Failure::Busy)
    }

    /// Says that something was, or is just being, queued.
    pub fn wake(&self) {
        self.queued.notify_one();
    }

    /// The folder that mails are put into while there is no mail server.
    #[must_use]
    pub fn folder(&self) -> Option<&std::path::Path> {
        match &self.way {
            Way::Folder(folder) => Some(folder),
            Way::Smtp(_) => None,
        }
    }

    /// Composes a mail: one recipient, a text and an HTML part. Header values cannot hold line
    /// breaks: the library encodes what is not plain (protocol 42).
    fn compose(&self, mail: &DueMail, plain: &Secret<Vec<u8>>, now: Timestamp) -> Result<Message, Problem> {
        let unreadable = |_| Problem::hopeless("The stored message cannot be read.");
        let (subject, text, html): (String, String, String) =
            serde_json::from_slice(plain.expose_secret()).map_err(unreadable)?;
        let to: Address =
            mail.to.parse().map_err(|_| Problem::hopeless("This is not an address that mail can be sent to."))?;
        let host = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(printable(&subject, 200))
            .date(std::time::SystemTime::from(now))
            .message_id(Some(format!("<{}@{host}>", mail.id)))
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(|_| Problem::hopeless("The message cannot be set as a mail."))?;
        // RFC 3834 §5: nobody's out-of-office answers a machine.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }

    async fn deliver(&self, mail: &DueMail, message: Message) -> Result<(), Problem> {
        let trying = async {
            match &self.way {
                Way::Smtp(transport) => transport.send(message).await.map(drop).map_err(|e| told(&e)),
                Way::Folder(folder) => put(folder, mail, &message.formatted()).await,
            }
        };
        let slow = || Problem::passing("The mail server did not answer in time.", true);
        tokio::time::timeout(TRY, trying).await.unwrap_or_else(|_| Err(slow()))
    }
}

/// Whether the mail server of a configuration answers, to somebody with this user and password, within a
/// time. Nothing is sent.
///
/// # Errors
/// Why it does not, without what an answer may quote.
pub(crate) async fn reach(config: &Config, limit: Duration) -> Result<(), String> {
    let Way::Smtp(transport) = Outbox::new(config).map_err(|e| e.to_string())?.way else { return Ok(()) };
    match tokio::time::timeout(limit, transport.test_connection()).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("The mail server does not take NOOP.".to_owned()),
        Ok(Err(error)) => Err(told(&error).text),
        Err(_) => Err("The mail server did not answer in time.".to_owned()),
    }
}

/// What an SMTP server answered, or that it did not. Its words are a stranger's, and may quote what
/// was sent: long words, as links and keys are, are left out (L-2).
fn told(error: &lettre::transport::smtp::Error) -> Problem {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let words = text.split_whitespace().map(|w| if w.len() > 30 { "…" } else { w });
    Problem::passing(printable(&words.collect::<Vec<_>>().join(" "), 300), error.status().is_none())
}

/// Writes a mail into the folder, whole or not at all, for its owner's eyes only. A mail that is
/// written again takes its own place.
async fn put(folder: &std::path::Path, mail: &DueMail, bytes: &[u8]) -> Result<(), Problem> {
    let written = async {
        let mut builder = tokio::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(folder).await?;
        let time = mail.queued_at.strftime("%Y%m%dT%H%M%SZ");
        let path = folder.join(format!("{time}-{}-{}.eml", mail.kind.code(), mail.id));
        let draft = path.with_extension("draft");
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(&draft).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&draft, &path).await
    };
    written.await.map_err(|e: std::io::Error| Problem::passing(format!("{}: {e}", folder.display()), true))
}

/// Sends what is due, at once when something is queued here and every few seconds otherwise, until
/// the process ends.
pub async fn run(app: Arc<App>) {
    loop {
        pass(&app).await;
        if tokio::time::timeout(AT_LEAST, app.outbox.queued.notified()).await.is_ok() {
            for wait in AFTER_QUEUING {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                pass(&app).await;
            }
        }
    }
}

async fn pass(app: &App) {
    if let Err(failure) = app.send_due_mails().await {
        failure.log();
        tracing::warn!(%failure, "mails were not sent; trying again in a few seconds");
    }
}

impl App {
    /// Sends the mails that are due now, one after the other, and tells how many were sent.
    ///
    /// # Errors
    /// The database's. What was sent and could not be noted is sent again.
    pub async fn send_due_mails(&self) -> Result<u32, Failure> {
        let mut sent = 0;
        while self.store.read().await?.is_mail_due(self.clock.now()).await? {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let due = tx.take_due_mail(now, now + LEASE).await?;
            tx.commit().await?;
            let Some(mail) = due else { break };
            let outcome = self.send_mail(&mail).await;
            let mut tx = self.store.write().await?;
            let now = self.clock.now();
            match &outcome {
                Ok(()) => tx.mail_was_sent(mail.id, now).await?,
                Err(problem) => {
                    let wait = WAITS.get(mail.tries.saturating_sub(1) as usize).filter(|_| !problem.hopeless);
                    let next = wait.map(|minutes| now + SignedDuration::from_mins(*minutes));
                    tx.mail_failed(mail.id, &problem.text, next).await?;
                    let given_up = next.is_none();
                    tracing::warn!(mail = %mail.id, kind = mail.kind.code(), tries = mail.tries, given_up, problem = problem.text, "a mail was not sent");
                }
            }
            tx.commit().await?;
            match outcome {
                Ok(()) => sent += 1,
                Err(problem) if problem.unreachable => break,
                Err(_) => {}
            }
        }
        Ok(sent)
    }

    async fn send_mail(&self, mail: &DueMail) -> Result<(), Problem> {
        let lost = || Problem::hopeless("The message is not there any more.");
        let sealed = mail.message.as_ref().ok_or_else(lost)?;
        let plain = self.store.keys().open(Purpose::Mail, &mail.id.to_string(), sealed);
        let plain =
            plain.map_err(|_| Problem::hopeless("The message was sealed with a key that is not given."))?;
        let message = self.outbox.compose(mail, &plain, self.clock.now())?;
        self.outbox.deliver(mail, message).await
    }

    /// A page of the outbox, the latest first, for Super Admins.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub async fn mails(
        &self,
        caller: &Caller,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<MailOnRecord>, Failure> {
        caller.super_admin()?;
        Ok(self.store.read().await?.mails(before, limit).await?)
    }

    /// Puts a mail that waits or was given up to the front.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`]; [`Failure::NotFound`] when it was sent or is not there.
    pub async fn try_mail_again(&self, caller: &Caller, id: Uuid) -> Result<(), Failure> {
        caller.super_admin()?;
        let mut tx = self.store.write().await?;
        if !tx.try_mail_again(id, self.clock.now()).await? {
            return Err(Failure::NotFound);
        }
        tx.commit().await?;
        self.outbox.wake();
        Ok(())
    }
}
