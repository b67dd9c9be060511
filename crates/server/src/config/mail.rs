//! The settings of mail: who it is from, and how it leaves.

use std::path::{Path, PathBuf};

use lettre::{Address, AsyncSmtpTransport, Tokio1Executor, message::Mailbox};
use portcullis_domain::secret::SecretText;

use super::{ConfigError, Settings};

/// How mails leave.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Who they are from: a name and an address.
    pub from: Mailbox,
    /// Where they go.
    pub way: MailWay,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub enum MailWay {
    /// To an SMTP server: its URL, as lettre reads it. It holds the password.
    Smtp(SecretText),
    /// Into a folder, for trying without a mail server.
    Folder(PathBuf),
}

impl Mail {
    /// Checks the settings; `folder` is where mails go without a server.
    pub(super) fn check(settings: &Settings, folder: &Path) -> Result<Self, ConfigError> {
        Ok(Self { from: mail_from(settings)?, way: mail_way(settings, folder)? })
    }
}

fn mail_from(settings: &Settings) -> Result<Mailbox, ConfigError> {
    match settings.text("mail_from").trim() {
        "" if !settings.text("smtp_url").trim().is_empty() => {
            Err(settings.wrong("mail_from", "give the address that mails are from: smtp_url is set"))
        }
        "" => Ok(Mailbox::new(
            Some("Portcullis".to_owned()),
            Address::new("portcullis", "localhost").map_err(|_| settings.wrong("mail_from", "give an address"))?,
        )),
        text => text.parse().map_err(|_| {
            settings.wrong("mail_from", "give a name and an address, like Portcullis <portcullis@acme.example>")
        }),
    }
}

/// The SMTP URL as lettre reads it. Mails hold links that open accounts, so the way has TLS, except
/// to this machine itself when the URL says so.
fn mail_way(settings: &Settings, folder: &Path) -> Result<MailWay, ConfigError> {
    let text = settings.text("smtp_url").trim();
    if text.is_empty() {
        return Ok(MailWay::Folder(folder.to_owned()));
    }
    let wrong = |what: &str| settings.wrong("smtp_url", what);
    let form = "give smtp://user:password@host:587 or smtps://user:password@host";
    let mut url = url::Url::parse(text).map_err(|_| wrong(form))?;
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| wrong(form))?.to_owned();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    match (url.scheme(), url.query()) {
        ("smtps", None) => {}
        ("smtp", None) => url.set_query(Some("tls=required")),
        ("smtp", Some("tls=none")) if is_here => url.set_query(None),
        ("smtp", Some("tls=none")) => {
            return Err(wrong("give a URL with TLS: tls=none is for a mail server on this machine only"));
        }
        _ => return Err(wrong(form)),
    }
    if !matches!(url.path(), "" | "/") {
        return Err(wrong(form));
    }
    AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str()).map_err(|_| wrong(form))?;
    Ok(MailWay::Smtp(String::from(url).into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let flags = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::check(&Settings::gather(None, std::iter::empty(), &flags)?)
    }

    #[test]
    fn mails_go_by_tls_or_into_a_folder() {
        let folder = config(&[("data_dir", "/d")]).unwrap().mail;
        assert!(matches!(folder.way, MailWay::Folder(path) if path == Path::new("/d/mail")));
        let from = ("mail_from", "Portcullis <portcullis@acme.example>");
        for good in [
            "smtps://u:hunter2@mail.acme.example",
            "smtp://u:p%40ss@mail.acme.example:587",
            "smtp://[::1]:25?tls=none",
        ] {
            let mail = config(&[("smtp_url", good), from]).unwrap().mail;
            assert_eq!(mail.from.email.to_string(), "portcullis@acme.example");
            assert!(matches!(mail.way, MailWay::Smtp(_)), "{good}");
            assert!(!format!("{mail:?}").contains("hunter2"), "L-2");
        }
        let error = config(&[("smtp_url", "smtps://mail.acme.example")]).unwrap_err().to_string();
        assert!(error.contains("mail_from") && error.contains("give"), "{error}");
        let error = config(&[("smtp_url", "smtp://u:hunter2@mail.acme.example/x"), from]).unwrap_err().to_string();
        assert!(error.contains("smtp_url") && !error.contains("hunter2"), "L-2: {error}");
        let flags = BTreeMap::from([("smtp_url".to_owned(), "smtps://u:hunter2@h".to_owned())]);
        let printed = Settings::gather(None, std::iter::empty(), &flags).unwrap().print();
        assert!(!printed.contains("hunter2") && printed.contains("smtps://u:***@h"), "{printed}");
    }
}
