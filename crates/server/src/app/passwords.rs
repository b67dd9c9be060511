//! Argon2id at OWASP's parameters, a bounded number at a time and on threads that step back for
//! all others, so that a flood of sign-ins costs a known amount of memory and starves no token.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use portcullis_domain::{
    audit::Origin,
    secret::{ExposeSecret, SecretText},
};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::{app::refusals::network, error::Failure};

/// How many may wait for their turn; beyond that the answer is "busy".
const MAX_WAITING: usize = 64;
/// How many of them from one network, so that one cannot take all the places.
const MAX_WAITING_OF_ONE: usize = 8;

/// A hash that no password is known for, verified when there is no account, so that the answer
/// takes the same time (protocol 37). Same parameters as real ones: m=19456 KiB, t=2, p=1.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG9ydGN1bGxpcy1ub2JvZHk$\
                      9bO7bZ7p1WnJ3N8Yb3c8C3cTzV0eR3mI5hQe1Zt1bYk";

/// How far the threads step back, which is as far as can be (`nice`, from 0 to 19): a seventieth of a core
/// that one other thread wants as well, by Linux's weights, and all of one that nobody wants.
/// A debug build keeps a tenth: beside each other and a browser, tests would wait for minutes.
#[cfg(target_os = "linux")]
const NICE: i32 = if cfg!(debug_assertions) { 10 } else { 19 };

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies passwords.
pub struct Passwords {
    turns: Arc<Semaphore>,
    workers: mpsc::Sender<Job>,
    waiting: Semaphore,
    networks: Mutex<HashMap<String, usize>>,
}

/// A place among those who wait from one network.
struct PlaceOfOne<'a> {
    network: String,
    networks: &'a Mutex<HashMap<String, usize>>,
}

/// A place among those who wait. A sign-in asks for it before anything else, the database included: in a
/// flood, that there is none is what most are told.
pub struct Place<'a> {
    passwords: &'a Passwords,
    _of_one: PlaceOfOne<'a>,
    _of_all: SemaphorePermit<'a>,
}

impl Place<'_> {
    /// Waits for the turn.
    ///
    /// # Errors
    /// [`Failure::Busy`] when there will be none, because the server ends.
    pub async fn turn(self) -> Result<Turn, Failure> {
        let permit = Arc::clone(&self.passwords.turns).acquire_owned().await.map_err(|_| Failure::Busy)?;
        Ok(Turn { permit, workers: self.passwords.workers.clone() })
    }
}

impl Drop for PlaceOfOne<'_> {
    fn drop(&mut self) {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = networks.get_mut(&self.network) {
            *waiting -= 1;
            if *waiting == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

impl Passwords {
    /// One at a time for each two cores, at least one.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let at_once = (cores / 2).max(1);
        let (workers, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..at_once {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || work_off(&jobs))?;
        }
        let (turns, waiting) = (Arc::new(Semaphore::new(at_once)), Semaphore::new(MAX_WAITING));
        Ok(Self { turns, workers, waiting, networks: Mutex::default() })
    }

    /// A place for somebody at this origin.
    ///
    /// # Errors
    /// [`Failure::Busy`] when too many wait already, in all or from that network.
    pub fn place(&self, origin: &Origin) -> Result<Place<'_>, Failure> {
        let of_one = self.place_of_one(network(&origin.ip, 24))?;
        let of_all = self.waiting.try_acquire().map_err(|_| Failure::Busy)?;
        Ok(Place { passwords: self, _of_one: of_one, _of_all: of_all })
    }

    /// Waits for a turn, for somebody at this origin.
    ///
    /// # Errors
    /// As [`Passwords::place`].
    pub async fn turn(&self, origin: &Origin) -> Result<Turn, Failure> {
        self.place(origin)?.turn().await
    }

    fn place_of_one(&self, network: String) -> Result<PlaceOfOne<'_>, Failure> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = networks.entry(network.clone()).or_default();
        if *waiting >= MAX_WAITING_OF_ONE {
            return Err(Failure::Busy);
        }
        *waiting += 1;
        Ok(PlaceOfOne { network, networks: &self.networks })
    }
}

/// A thread's life: one job after the other, until nobody can have another.
fn work_off(jobs: &Mutex<mpsc::Receiver<Job>>) {
    step_back();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job();
    }
}

/// Lets all other threads go first. Linux has a priority for each thread, under its own number.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "passwords are checked with the priority of all else");
    }
}

/// The right to one use of Argon2id.
pub struct Turn {
    permit: tokio::sync::OwnedSemaphorePermit,
    workers: mpsc::Sender<Job>,
}

impl Turn {
    /// Whether a password belongs to a hash. Without a hash it takes as long and says no.
    ///
    /// # Errors
    /// [`Failure::Internal`] when the stored hash cannot be read.
    pub async fn verify(self, password: SecretText, hash: Option<String>) -> Result<bool, Failure> {
        self.work(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODY);
            match Argon2::default().verify_password(password.expose_secret().as_bytes(), hash) {
                Ok(()) => Ok(known),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(Failure::Internal(format!("a stored password hash cannot be used: {error}"))),
            }
        })
        .await
    }

    /// The hash of a new password, in the PHC form.
    ///
    /// # Errors
    /// [`Failure::Internal`] when Argon2 refuses.
    pub async fn hash(self, password: SecretText, salt: [u8; 16]) -> Result<String, Failure> {
        self.work(move || {
            let password = password.expose_secret().as_bytes();
            let hash: Result<PasswordHash, _> = Argon2::default().hash_password_with_salt(password, &salt);
            hash.map(|h| h.to_string()).map_err(|e| Failure::Internal(format!("Argon2: {e}")))
        })
        .await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let Self { permit, workers } = self;
        let job = move || {
            // What it panicked with may be the password.
            let panicked = |_| Err(Failure::Internal("the password worker panicked".to_owned()));
            let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
            // The turn ends when the work does, even if nobody waits for it.
            drop(permit);
            let _ = answer.send(done);
        };
        let ended = || Failure::Internal("the password worker has ended".to_owned());
        workers.send(Box::new(job)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Origin {
        Origin::new("203.0.113.7".to_owned(), "test/1")
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_and_nobody_s_never_does() {
        let passwords = Passwords::new().unwrap();
        let word = || SecretText::from("tide lantern walnut orbit".to_owned());
        let hash = passwords.turn(&here()).await.unwrap().hash(word(), [1; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "OWASP's parameters: {hash}");
        assert!(passwords.turn(&here()).await.unwrap().verify(word(), Some(hash.clone())).await.unwrap());
        let long = SecretText::from("x".repeat(100) + "a");
        let other = SecretText::from("x".repeat(100) + "b");
        let hash72 = passwords.turn(&here()).await.unwrap().hash(long, [1; 16]).await.unwrap();
        assert!(
            !passwords.turn(&here()).await.unwrap().verify(other, Some(hash72)).await.unwrap(),
            "all of it counts"
        );
        assert!(!passwords.turn(&here()).await.unwrap().verify(word(), None).await.unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_step_back_and_nobody_else_does() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Counted from after the name, which may hold anything: the 17th field (proc(5): 19).
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let passwords = Passwords::new().unwrap();
        let there = passwords.turn(&here()).await.unwrap().work(move || Ok(nice())).await.unwrap();
        assert_eq!((there, nice()), (NICE, before));
        let turn = passwords.turn(&here()).await.unwrap();
        assert!(turn.work(|| -> Result<(), Failure> { panic!("on purpose") }).await.is_err());
        assert!(passwords.turn(&here()).await.unwrap().work(|| Ok(())).await.is_ok(), "the thread goes on");
    }

    #[tokio::test]
    async fn a_flood_is_told_that_the_server_is_busy() {
        let passwords = Passwords { waiting: Semaphore::new(0), ..Passwords::new().unwrap() };
        assert!(matches!(passwords.turn(&here()).await, Err(Failure::Busy)));
    }

    #[tokio::test]
    async fn one_network_does_not_take_all_the_places() {
        let passwords = Passwords::new().unwrap();
        let places: Vec<_> = (0..MAX_WAITING_OF_ONE).map(|_| passwords.place(&here())).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!(matches!(passwords.turn(&here()).await, Err(Failure::Busy)));
        assert!(passwords.turn(&Origin::new("198.51.100.1".to_owned(), "")).await.is_ok());
        drop(places);
        assert!(passwords.turn(&here()).await.is_ok());
        assert!(passwords.networks.lock().unwrap().is_empty(), "nothing is remembered of who left");
    }
}
