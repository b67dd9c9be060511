//! The pages: which are asked for, and how long the server takes for each.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use hdrhistogram::Histogram;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use portcullis_bench::connection::Connection;
use portcullis_bench::contestant::{EMAIL, Running};
use portcullis_store::{MasterKeys, Purpose};
use serde_json::json;

use crate::fill::{Sizes, keys};

/// What is asked for.
pub(crate) struct Page {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Where it is.
    path: String,
}

/// How long a page took, in milliseconds.
pub(crate) struct Took {
    /// The first time, when nothing of it was in memory.
    pub(crate) first: f64,
    /// The median.
    pub(crate) median: f64,
    /// What 99 of 100 stayed within.
    pub(crate) p99: f64,
}

/// A cursor as the server makes it. Nobody turns a hundred thousand pages to get to the last one.
fn cursor(keys: &MasterKeys, list: &str, place: &[u8]) -> String {
    let message = [list.as_bytes(), &[0], place].concat();
    let mac = keys.digest_key(Purpose::Cursor).mac(&message);
    BASE64URL.encode([place, &mac[..12]].concat())
}

/// The pages of a database of some size.
pub(crate) fn pages(dir: &Path, sizes: Sizes) -> anyhow::Result<Vec<Page>> {
    let keys = keys(dir)?;
    let audit = |seq: i64| cursor(&keys, "audit", &seq.to_be_bytes());
    // The last users of all, but a few: their ids begin with the time, and these were made today.
    let today = portcullis_bench::outside::now() - jiff::SignedDuration::from_hours(390 * 24);
    let late_user = cursor(&keys, "users", portcullis_bench::outside::id(today).as_bytes());
    let used_at = (portcullis_bench::outside::now() - jiff::SignedDuration::from_hours(59 * 24)).as_microsecond();
    let early_use = cursor(&keys, "use", &[&used_at.to_be_bytes()[..], &[0xff; 16]].concat());
    let day = |days: i64| {
        (portcullis_bench::outside::now() - jiff::SignedDuration::from_hours(days * 24))
            .strftime("%Y-%m-%d")
            .to_string()
    };
    let someone = sizes.users / 2;
    let user = format!("user{someone}%40acme.example");
    let client = format!("pcc_{someone:020}");
    let page = |name, path: String| Page { name, path };
    Ok(vec![
        page("Credentials", "/account/credentials".into()),
        page("Recent use, first page", "/account/credentials/use".into()),
        page("Recent use, far down", format!("/account/credentials/use?cursor={early_use}")),
        page("Users, first page", "/users".into()),
        page("Users, far down", format!("/users?after={late_user}")),
        page("Users, a status that nobody has", "/users?status=pending".into()),
        page("Users, searched by an address", format!("/users?search={user}")),
        page("Users, searched by what many have", "/users?search=acme".into()),
        page("Users, searched by what nobody has", "/users?search=zebra".into()),
        page("Users, API, first page", "/api/v1/users?limit=50".into()),
        page("Users, API, far down", format!("/api/v1/users?limit=50&cursor={late_user}")),
        page("Audit log, first page", "/audit".into()),
        page("Audit log, last page", format!("/audit?older={}", audit(50))),
        page("Audit log, one event, rare", "/audit?event=role.change".into()),
        page("Audit log, one event, common", format!("/audit?event=sign_in&older={}", audit(sizes.records / 2))),
        page("Audit log, an event that never was", "/audit?event=key.withdraw".into()),
        page("Audit log, refused, last page", format!("/audit?outcome=refused&older={}", audit(1000))),
        page("Audit log, one user", format!("/audit?actor={user}")),
        page("Audit log, one subject", format!("/audit?subject={client}")),
        page("Audit log, one user and one event", format!("/audit?actor={user}&event=profile.change")),
        page("Audit log, one day a year ago", format!("/audit?from={0}&to={0}", day(360))),
        page("Audit log, up to a year ago", format!("/audit?to={}", day(360))),
        page(
            "Audit log, one event, one day a year ago",
            format!("/audit?event=profile.change&from={0}&to={0}", day(360)),
        ),
        page("Audit log, a day without records", "/audit?from=2001-01-01&to=2001-01-01".into()),
        page("Audit log, API, first page", "/api/v1/audit?limit=50".into()),
        page("Audit log, API, last page", format!("/api/v1/audit?limit=50&cursor={}", audit(50))),
        page("Audit log, API, 200 rows", "/api/v1/audit?limit=200".into()),
        page("Status list", "/oauth/status".into()),
    ])
}

/// A person at the console.
pub(crate) struct Visitor {
    address: SocketAddr,
    cookie: String,
}

/// So long a slow page is looked at, and as often at least.
const PATIENCE: Duration = Duration::from_secs(10);
const LEAST: u64 = 5;

impl Visitor {
    /// Signs in.
    pub(crate) async fn sign_in(server: &Running) -> anyhow::Result<Self> {
        let who = json!({ "email": EMAIL, "password": server.password }).to_string();
        let request = Request::post("/api/v1/session").header(CONTENT_TYPE, "application/json");
        let signed_in = Connection::open(server.address).await?.send(request, who).await?;
        let cookie = signed_in.headers().get(SET_COOKIE).context("no session")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { address: server.address, cookie })
    }

    /// Looks at a page so many times, or fewer if it is slow.
    pub(crate) async fn look(&self, page: &Page, times: u32) -> anyhow::Result<Took> {
        let mut took = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        // One for each page: the server closes those that were idle meanwhile.
        let mut connection = Connection::open(self.address).await?;
        let first = self.look_once(&mut connection, page).await?;
        let began = Instant::now();
        for _ in 0..times {
            if took.len() >= LEAST && began.elapsed() > PATIENCE {
                break;
            }
            took.saturating_record(self.look_once(&mut connection, page).await?);
        }
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a page are far below 2^52")]
        let ms = |us: u64| us as f64 / 1000.0;
        Ok(Took {
            first: ms(first),
            median: ms(took.value_at_quantile(0.5)),
            p99: ms(took.value_at_quantile(0.99)),
        })
    }

    /// Microseconds until the whole page was there.
    async fn look_once(&self, connection: &mut Connection, page: &Page) -> anyhow::Result<u64> {
        let request = Request::get(&page.path).header(COOKIE, &self.cookie);
        let asked = Instant::now();
        connection.ask(request, String::new()).await.with_context(|| page.path.clone())?;
        Ok(u64::try_from(asked.elapsed().as_micros())?)
    }
}
