//! Where a scenario takes place: servers over one database, people and programs, what they saw so far.
//! A scenario lets them work, breaks something, and calls [`Arena::settle`]; at the end [`Arena::finish`]
//! looks at the database.

mod settle;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use fastrand::Rng;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    check::Window,
    cluster::Cluster,
    history::{Call, Desk, Pen},
    ledger::{Base, Facts, Told},
    load::{Door, Load, Part, Work, Worker},
    node::{Node, Site, free_address},
    people::{Pair, Person, password},
    proxy::Proxy,
    register::Start,
    report::Report,
    wire::Wrong,
};

/// How often a hold is lifted until all servers are content: once for each of two, and once to spare.
const LIFTS: u32 = 4;
/// For how many seconds at least a hold is waited for: each server looks for itself every five.
const NOTICED_WITHIN: u32 = 8;
/// What the servers are called, and their data folders.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What all scenarios of a run share.
pub struct Lab {
    /// The server.
    pub program: PathBuf,
    /// The defect that is seeded, if one is.
    pub bug: Option<&'static str>,
    /// Where histories are kept.
    pub results: PathBuf,
    folder: TempDir,
    cluster: tokio::sync::OnceCell<Arc<Cluster>>,
}

impl Lab {
    /// A lab for this program.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new(program: &Path, bug: Option<&'static str>) -> anyhow::Result<Self> {
        if !program.is_file() {
            bail!("{} is not there; run dev/faults, which builds it", program.display());
        }
        let (program, results) = (std::path::absolute(program)?, std::path::absolute("target/faults")?);
        let folder = tempfile::tempdir()?;
        Ok(Self { program, bug, results, folder, cluster: tokio::sync::OnceCell::new() })
    }

    /// The cluster of all scenarios that do not lose it for good.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn cluster(&self) -> anyhow::Result<Arc<Cluster>> {
        let folder = self.folder.path().join("postgres");
        self.cluster.get_or_try_init(async || Ok(Arc::new(Cluster::start(&folder).await?))).await.cloned()
    }
}

/// What an arena is to be like.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// What it is called in histories.
    pub name: &'a str,
    /// The seed of what is left to chance.
    pub seed: u64,
    /// How many servers; more than one takes PostgreSQL.
    pub nodes: usize,
    /// How many owners of credentials.
    pub owners: usize,
    /// Further settings, as `key=value`.
    pub settings: &'a [&'a str],
    /// The cluster to use instead of SQLite.
    pub cluster: Option<Arc<Cluster>>,
    /// Whether clocks are stepped: then a refusal fits at any time, and phones are of no use.
    pub clocks: bool,
    /// Whether programs and verifiers reach the servers through one address.
    pub balanced: bool,
    /// Environment of the last server alone.
    pub last_environment: Vec<(String, String)>,
}

impl<'a> Plan<'a> {
    /// One server on SQLite with three owners.
    #[must_use]
    pub fn new(name: &'a str, seed: u64) -> Self {
        let (settings, last_environment) = (&[][..], Vec::new());
        Self {
            name,
            seed,
            nodes: 1,
            owners: 3,
            settings,
            cluster: None,
            clocks: false,
            balanced: false,
            last_environment,
        }
    }
}

/// Where a scenario takes place.
pub struct Arena {
    /// The servers.
    pub nodes: Vec<Node>,
    /// The owners of credentials.
    pub owners: Vec<Arc<Person>>,
    /// The Super Admin who manages them, and is left alone.
    pub operator: Arc<Person>,
    /// A key of the product's own API.
    pub key: Pair,
    /// What is left to chance.
    pub rng: Rng,
    /// What was found so far.
    pub report: Report,
    /// Where histories are written.
    pub desk: Desk,
    /// Between the servers and PostgreSQL.
    pub proxy: Option<Proxy>,
    /// Between everybody and the servers, if they are balanced.
    pub balancer: Option<Proxy>,
    /// The database itself.
    pub base: Base,
    /// What clients were told so far.
    pub told: Told,
    /// Whether everything that happens has to be answered.
    pub all_answered: bool,
    seed: u64,
    name: String,
    clocks: bool,
    /// What the load did, if there was one.
    work: Option<Arc<Work>>,
    windows: Vec<Window>,
    closer: Pen,
    hear: UnboundedReceiver<String>,
    wrong: Wrong,
    /// Deleted last.
    _folder: TempDir,
}

/// Makes a database in a cluster for one arena: its URL.
async fn database(cluster: &Cluster, number: u64) -> anyhow::Result<String> {
    use sqlx::{Connection, Executor, PgConnection};
    let mut connection = PgConnection::connect(cluster.url()).await?;
    let name = format!("faults_{number:016x}");
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    connection.close().await?;
    let (server, _) = cluster.url().rsplit_once('/').context("a URL without a database")?;
    Ok(format!("{server}/{name}"))
}

/// The same URL with another port.
#[must_use]
pub fn at_port(url: &str, from: u16, to: u16) -> String {
    url.replacen(&format!(":{from}/"), &format!(":{to}/"), 1)
}

impl Arena {
    /// Builds one, and starts its servers.
    ///
    /// # Errors
    /// When a part of it does not come up.
    pub async fn build(lab: &Lab, plan: Plan<'_>) -> anyhow::Result<Self> {
        let desk = Desk::new(&lab.results.join(format!("{}-{:016x}", plan.name, plan.seed)))?;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let (mut proxy, mut through) = (None, None);
        let base = match &plan.cluster {
            None => Base::Sqlite(data.join(NAMES[0]).join("portcullis.db")),
            Some(cluster) => {
                let url = database(cluster, crate::outside::random()?).await?;
                let between = Proxy::start(cluster.port()?).await?;
                through = Some(at_port(&url, cluster.port()?, between.port));
                proxy = Some(between);
                Base::Postgres(url)
            }
        };
        let (mut nodes, balancer) = Self::servers(lab, &plan, data, through.as_deref(), desk.folder()).await?;
        let (wrong, hear) = Wrong::channel();
        let people = Self::people(&nodes, plan.owners, &wrong).await?;
        if let Some(last) = nodes.last_mut() {
            last.environment = plan.last_environment;
        }
        for node in &mut nodes {
            node.start().await?;
        }
        let (operator, owners) = people.split_first().context("an arena without people")?;
        let url = nodes[0].url();
        for person in &people {
            if person.sign_in(&url, None).await != Some(StatusCode::CREATED) {
                bail!("{} cannot sign in; see {}", person.email, desk.folder().display());
            }
        }
        let start = Start { held: None, refusals_fit: plan.clocks };
        let closer = desk.pen()?;
        Ok(Self {
            key: operator.make_key(&url).await?,
            operator: Arc::clone(operator),
            owners: owners.to_vec(),
            windows: vec![Window { start, calls: Vec::new() }; owners.len()],
            rng: Rng::with_seed(plan.seed),
            seed: plan.seed,
            report: Report::default(),
            told: Told::default(),
            all_answered: false,
            name: plan.name.to_owned(),
            clocks: plan.clocks,
            work: None,
            nodes,
            proxy,
            balancer,
            base,
            closer,
            hear,
            wrong,
            desk,
            _folder: folder,
        })
    }

    /// The servers of a plan, not started yet, and what stands before them.
    async fn servers(
        lab: &Lab,
        plan: &Plan<'_>,
        folder: PathBuf,
        database: Option<&str>,
        logs: &Path,
    ) -> anyhow::Result<(Vec<Node>, Option<Proxy>)> {
        let addresses: Vec<_> = (0..plan.nodes).map(|_| free_address()).collect::<Result<_, _>>()?;
        let first = addresses.first().context("an arena without servers")?;
        let balancer = if plan.balanced { Some(Proxy::start(first.port()).await?) } else { None };
        let public_url = match &balancer {
            Some(balancer) => format!("http://127.0.0.1:{}", balancer.port),
            None => format!("http://{first}"),
        };
        let mut settings: Vec<String> =
            ["session_idle_minutes=1440", "session_absolute_hours=168", "token_lifespan_seconds=2592000"]
                .map(str::to_owned)
                .to_vec();
        settings.extend(plan.settings.iter().map(|s| (*s).to_owned()));
        let environment =
            lab.bug.iter().map(|bug| ("PORTCULLIS_TEST_BUG".to_owned(), (*bug).to_owned())).collect();
        let program = lab.program.clone();
        let site = Site { program, folder, public_url, settings, environment };
        let mut nodes = Vec::new();
        for (address, name) in addresses.iter().zip(NAMES) {
            // As on machines of their own: each notes in its own folder what it acknowledged.
            std::fs::create_dir_all(site.folder.join(name))?;
            nodes.push(Node::new(name, *address, database, &site, logs));
        }
        Ok((nodes, balancer))
    }

    async fn people(nodes: &[Node], owners: usize, wrong: &Wrong) -> anyhow::Result<Vec<Arc<Person>>> {
        let first = nodes.first().context("an arena without servers")?;
        let mut people = Vec::new();
        for number in 0..=owners {
            let email = if number == 0 {
                "operator@acme.example".to_owned()
            } else {
                format!("owner{number}@acme.example")
            };
            let secret = password()?;
            let words =
                ["admin", "create", "--email", &email, "--name", "Somebody", "--super-admin", "--password-stdin"];
            let made = first.run(&words, &format!("{}\n", secret.expose_secret())).await?;
            if made.code != 0 {
                bail!("{email} could not be made: {}", made.said);
            }
            people.push(Arc::new(Person::new(&email, secret, wrong.clone())?));
        }
        Ok(people)
    }

    /// Makes one more person, whom the load leaves alone.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn another_person(&self, number: usize) -> anyhow::Result<Person> {
        let (email, secret) = (format!("other{number}@acme.example"), password()?);
        let words = ["admin", "create", "--email", &email, "--name", "Other", "--super-admin", "--password-stdin"];
        let made = self.nodes[0].run(&words, &format!("{}\n", secret.expose_secret())).await?;
        if made.code != 0 {
            bail!("{email} could not be made: {}", made.said);
        }
        Person::new(&email, secret, self.wrong.clone())
    }

    /// Where a lock is left out on purpose, the index that guards C-1 in its place goes, too.
    ///
    /// # Errors
    /// The database's.
    pub async fn drop_guard(&self, lab: &Lab) -> anyhow::Result<()> {
        use sqlx::{Connection, Executor, PgConnection};
        let Base::Postgres(url) = &self.base else { bail!("the index is dropped on PostgreSQL only") };
        if lab.bug == Some("no-lock") {
            let mut connection = PgConnection::connect(url).await?;
            connection.execute("DROP INDEX c1_one_active_credential").await?;
            connection.close().await?;
        }
        Ok(())
    }

    /// The servers as clients know them.
    #[must_use]
    pub fn doors(&self) -> Vec<Door> {
        self.nodes.iter().map(|n| (n.name.clone(), n.url())).collect()
    }

    /// Sets everybody to work. The first time nothing breaks before they have done all that they are there
    /// for: on a slow machine, too, a short run is to break something.
    ///
    /// # Errors
    /// When a client's file cannot be made.
    pub async fn load(&mut self) -> anyhow::Result<Load> {
        let (is_first, with_mfa) = (self.work.is_none(), !self.clocks);
        let work = Arc::clone(self.work.get_or_insert_with(|| Arc::new(Work::new(with_mfa))));
        let suspender = if self.clocks { Part::RoleTaker } else { Part::Suspender };
        let parts = [Part::Hand, Part::Hand, suspender, Part::Program, Part::Program, Part::Program];
        let mut workers = Vec::new();
        for owner in &self.owners {
            for part in parts {
                workers.push(Worker {
                    part,
                    owner: Arc::clone(owner),
                    operator: Arc::clone(&self.operator),
                    key: self.key.clone(),
                    doors: self.nodes.iter().map(|n| (n.name.clone(), n.url())).collect(),
                    rng: self.rng.fork(),
                    work: Arc::clone(&work),
                });
            }
        }
        let load = Load::start(workers, &self.desk)?;
        if is_first {
            work.wait().await;
        }
        Ok(load)
    }

    /// Whether the database comes to be on hold. The command only reads: it is the servers that notice.
    async fn comes_on_hold(&self) -> anyhow::Result<bool> {
        for _ in 0..NOTICED_WITHIN {
            sleep(Duration::from_secs(1)).await;
            let shown = self.nodes[0].run(&["hold", "show"], "").await?;
            if shown.code != 0 {
                bail!("it is not known whether the database is on hold: {}", shown.said);
            }
            if !shown.said.contains("is not on hold") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// After acts may have been lost: sees whether the servers notice, and lifts the hold as an operator does
    /// who has answered for it, until all of them are content. Gives whether there was one.
    ///
    /// # Errors
    /// When the servers do not become content.
    pub async fn lift_holds(&self) -> anyhow::Result<bool> {
        for lifted in 0..LIFTS {
            if !self.comes_on_hold().await? {
                for node in self.nodes.iter().filter(|node| node.is_running()) {
                    node.recover().await?;
                }
                return Ok(lifted > 0);
            }
            let done = self.nodes[0].run(&["hold", "lift", "--nothing-was-stopped"], "").await?;
            if done.code != 0 {
                bail!("the hold cannot be lifted: {}", done.said);
            }
        }
        bail!("the servers put the database on hold again and again")
    }

    /// Waits for a time that is left to chance.
    pub async fn pause(&mut self, least: u64, most: u64) {
        sleep(Duration::from_millis(self.rng.u64(least..=most))).await;
    }

    /// Counts calls, and puts them to the histories of the users they are about.
    pub fn absorb(&mut self, calls: Vec<Call>) {
        self.report.count(&calls);
        self.told.add(&calls);
        for call in calls {
            if let Some(at) = self.owners.iter().position(|o| o.email == call.user) {
                self.windows[at].calls.push(call);
            }
        }
    }

    /// The ids of the owners beside their e-mail addresses.
    fn users(&self) -> Vec<(String, String)> {
        self.owners.iter().map(|o| (o.email.clone(), o.id())).collect()
    }

    /// Looks at the database, and gives what was found. The histories are kept if something was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn finish(mut self) -> anyhow::Result<Report> {
        let facts = Facts::read(&self.base).await?;
        let outer = facts.outer_violations(&self.told, &self.users(), self.all_answered);
        self.report.violations.extend(outer);
        self.finish_with(&facts).await
    }

    /// The same where what was acknowledged may be lost.
    ///
    /// # Errors
    /// As [`Arena::finish`].
    pub async fn finish_with(mut self, facts: &Facts) -> anyhow::Result<Report> {
        let mut report = std::mem::take(&mut self.report);
        if report.faults == 0 {
            report.violations.push("nothing was broken, so nothing is known".to_owned());
        }
        let missing = self.work.as_ref().map(|work| work.missing()).unwrap_or_default();
        if !missing.is_empty() {
            report.violations.push(format!("nobody came to do this, so nothing is known of it: {missing:?}"));
        }
        report.violations.extend(facts.inner_violations());
        while let Ok(what) = self.hear.try_recv() {
            report.violations.push(what);
        }
        let verified = self.nodes[0].run(&["audit", "verify"], "").await?;
        if verified.code != 0 {
            report.violations.push(format!("L-3: audit verify: {}", verified.said.trim()));
        }
        for node in &mut self.nodes {
            node.kill().await?;
        }
        if report.violations.is_empty() {
            std::fs::remove_dir_all(self.desk.folder())?;
        } else {
            report.violations.push(format!(
                "histories and logs are in {}; again: ./dev/faults --only {} --seed {:#x}",
                self.desk.folder().display(),
                self.name,
                self.seed
            ));
        }
        Ok(report)
    }
}
