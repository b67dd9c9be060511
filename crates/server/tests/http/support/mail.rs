//! Mails as their reader gets them, read by an independent library; and a mail server of the
//! tests' own.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use mailparse::MailHeaderMap;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::World;

/// A mail, decoded.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Header names and values, as they were written.
    pub headers: Vec<(String, String)>,
    pub subject: String,
    pub to: String,
    pub text: String,
    pub html: String,
    /// All of it, as it was sent.
    pub raw: String,
}

impl Mail {
    pub fn read(raw: &[u8]) -> Self {
        let parsed = mailparse::parse_mail(raw).unwrap();
        assert_eq!(parsed.ctype.mimetype, "multipart/alternative");
        let part = |mime: &str| {
            let found: Vec<_> = parsed.subparts.iter().filter(|p| p.ctype.mimetype == mime).collect();
            assert_eq!(found.len(), 1, "{mime}");
            found[0].get_body().unwrap().replace("\r\n", "\n")
        };
        let headers = parsed.headers.iter().map(|h| (h.get_key(), h.get_value())).collect();
        let header = |name: &str| parsed.headers.get_first_value(name).unwrap_or_default();
        Self {
            headers,
            subject: header("Subject"),
            to: header("To"),
            text: part("text/plain"),
            html: part("text/html"),
            raw: String::from_utf8_lossy(raw).into_owned(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.as_str())
    }

    /// The path of the link to a page of the console, like `/activate/…`. It is in both parts.
    pub fn link(&self, page: &str) -> String {
        let begin = self.text.find(page).unwrap_or_else(|| panic!("no {page} in {}", self.text));
        let link: String = self.text[begin..].chars().take_while(|c| !c.is_whitespace()).collect();
        assert!(self.html.contains(&link), "{}", self.html);
        link
    }
}

impl World {
    /// Sends what is due, and gives all mails in the folder, the earliest first.
    pub async fn mails(&self) -> Vec<Mail> {
        self.app.send_due_mails().await.unwrap();
        let folder = self.app.outbox.folder().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .map(|entries| entries.map(|e| e.unwrap().path()).collect())
            .unwrap_or_default();
        // By when they were queued, then in the order of their ids.
        files.sort_by_key(|path: &std::path::PathBuf| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name[..16].to_owned(), name[name.len() - 36..].to_owned())
        });
        files.iter().map(|path| Mail::read(&std::fs::read(path).unwrap())).collect()
    }

    /// The subjects of the mails to an address.
    pub async fn subjects_to(&self, email: &str) -> Vec<String> {
        self.mails().await.into_iter().filter(|m| m.to == email).map(|m| m.subject).collect()
    }

    /// The latest mail to an address, when there are so many.
    pub async fn mail_to(&self, email: &str, count: usize) -> Mail {
        for _ in 0..200 {
            let mut mails = self.mails().await;
            mails.retain(|m| m.to == email);
            if mails.len() >= count {
                return mails.pop().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("there are not {count} mails to {email}");
    }

    /// Another world on the same kind of database with these settings.
    pub async fn of_its_kind(&self, settings: &[(&str, &str)]) -> Self {
        match self.database {
            portcullis_store::Database::Sqlite(_) => Self::sqlite(settings).await,
            portcullis_store::Database::Postgres(_) => Self::postgres(settings).await,
        }
    }
}

/// How the mail server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Takes,
    /// Refuses the recipient, quoting what it was sent.
    Refuses,
    /// Accepts the connection and says nothing.
    Hangs,
    /// Hangs up in the middle.
    Drops,
}

/// A mail server that speaks as much SMTP as it must (RFC 5321).
pub struct MailServer {
    pub port: u16,
    pub manner: Arc<Mutex<Manner>>,
    pub taken: Arc<Mutex<Vec<(String, Mail)>>>,
    pub connections: Arc<AtomicU64>,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            manner: Arc::new(Mutex::new(Manner::Takes)),
            taken: Arc::default(),
            connections: Arc::default(),
        };
        let (manner, taken, connections) =
            (Arc::clone(&server.manner), Arc::clone(&server.taken), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let manner = *manner.lock().unwrap();
                // A client that hangs up is none of the tests' business.
                tokio::spawn(talk(stream, manner, Arc::clone(&taken)));
            }
        });
        server
    }

    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn taken(&self) -> Vec<(String, Mail)> {
        self.taken.lock().unwrap().clone()
    }

    pub fn url(&self) -> String {
        format!("smtp://portcullis:canary-smtp-password@127.0.0.1:{}?tls=none", self.port)
    }
}

async fn talk(stream: TcpStream, manner: Manner, taken: Arc<Mutex<Vec<(String, Mail)>>>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    if manner == Manner::Hangs {
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
        return Ok(());
    }
    write.write_all(b"220 mail.acme.example\r\n").await?;
    let mut recipients = Vec::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.split([' ', '\r']).next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-mail.acme.example\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n".to_owned(),
            "AUTH" => "235 in\r\n".to_owned(),
            "RCPT" if manner == Manner::Refuses => {
                format!("550 5.1.1 nobody here: {} canary-{}\r\n", line.trim(), "x".repeat(43))
            }
            "RCPT" => {
                recipients.push(line.trim().to_owned());
                "250 ok\r\n".to_owned()
            }
            "DATA" if manner == Manner::Drops => return Ok(()),
            "DATA" => {
                write.write_all(b"354 go\r\n").await?;
                let mut data = String::new();
                while !data.ends_with("\r\n.\r\n") {
                    if lines.read_line(&mut data).await? == 0 {
                        return Ok(());
                    }
                }
                let data = data.trim_end_matches(".\r\n").replace("\r\n..", "\r\n.");
                let mail = Mail::read(data.as_bytes());
                taken.lock().unwrap().push((recipients.join(","), mail));
                "250 taken\r\n".to_owned()
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok\r\n".to_owned(),
        };
        write.write_all(answer.as_bytes()).await?;
    }
}
