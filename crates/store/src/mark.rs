//! The mark: a small file outside of the database that holds the number of the last audit record that
//! this machine acknowledged. A database whose log lacks that record is older than what was said of it
//! (H-4).
//!
//! It is written after each commit of an act and not synced: it outlives the process, not a power cut.
//! So it is never ahead of the database, and behind it only after a power cut. A server and the
//! commands beside it note in the same file: of two that come in the wrong order the later stays.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use portcullis_domain::{audit::Head, hold::Noted};

/// The mark of a process; none until the database was looked at, or where there is no place for one.
pub(crate) struct Mark {
    path: Option<PathBuf>,
    state: Mutex<Option<State>>,
}

struct State {
    noted: Noted,
    /// Absent where the mark is only in memory.
    file: Option<File>,
    is_failing: bool,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The line in the file: always as long, so that it is written in place.
fn line(noted: &Noted) -> String {
    let head = &noted.head;
    format!("portcullis-mark 1 {:<80} {:020} {:020} {}\n", noted.place, noted.line, head.seq, hex(&head.link))
}

fn parse(text: &str) -> Option<Noted> {
    let mut words = text.split_ascii_whitespace();
    let (kind, form) = (words.next()?, words.next()?);
    let (place, line) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let (seq, link) = (words.next()?.parse().ok()?, words.next()?);
    if kind != "portcullis-mark" || form != "1" || link.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(link.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(Noted { place, line, head: Head { seq, link: bytes } })
}

impl Mark {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Mutex::new(None) }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        // Nothing is left half-way by a panic in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted last: by this process, else in the file. A file that is not a mark is as good as none.
    pub(crate) fn noted(&self) -> io::Result<Option<Noted>> {
        if let Some(state) = &*self.state() {
            return Ok(Some(state.noted.clone()));
        }
        match self.path.as_deref().map(std::fs::read) {
            Some(Ok(bytes)) => Ok(parse(&String::from_utf8_lossy(&bytes))),
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(None),
        }
    }

    /// What this process noted last, if it notes.
    pub(crate) fn noted_here(&self) -> Option<Noted> {
        self.state().as_ref().map(|state| state.noted.clone())
    }

    /// Begins to note: the file is there, and synced, when this returns.
    pub(crate) fn begin(&self, noted: Noted) -> io::Result<()> {
        let mut state = self.state();
        let opened = self.path.as_deref().map(opened).transpose()?;
        let (noted, file) = match opened {
            Some(mut file) => {
                let noted = write_later(&mut file, noted)?;
                file.sync_all()?;
                (noted, Some(file))
            }
            None => (noted, None),
        };
        *state = Some(State { noted, file, is_failing: false });
        Ok(())
    }

    /// Notes the last record after a commit, and which line it is of.
    pub(crate) fn note(&self, line_of_log: i64, head: Head) {
        let mut state = self.state();
        let Some(State { noted, file, is_failing }) = state.as_mut() else { return };
        let new = Noted { place: noted.place.clone(), line: line_of_log, head };
        if noted.is_later_than(&new) {
            return;
        }
        *noted = new;
        let Some(file) = file else { return };
        let written = write_later(file, noted.clone());
        if let Some(error) = written.as_ref().err().filter(|_| !*is_failing) {
            tracing::warn!(%error, "the mark beside the database cannot be written: an older copy would not be noticed");
        }
        *is_failing = written.is_err();
    }
}

/// The file, made if it is not there.
fn opened(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes it, unless another process noted something later; gives what is in the file then.
fn write_later(file: &mut File, noted: Noted) -> io::Result<Noted> {
    // Held for a few system calls by each. It ends with the file, too.
    file.lock()?;
    let written = (|| {
        let mut before = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut before)?;
        match parse(&String::from_utf8_lossy(&before)).filter(|before| before.is_later_than(&noted)) {
            Some(before) => Ok(before),
            None => {
                let text = line(&noted);
                file.seek(SeekFrom::Start(0))?;
                file.write_all(text.as_bytes())?;
                file.set_len(text.len() as u64)?;
                Ok(noted)
            }
        }
    })();
    file.unlock()?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(seq: i64) -> Noted {
        Noted { place: "7712556905490383991/5".to_owned(), line: 3, head: Head { seq, link: [0xab; 32] } }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_anything_else_is_none() {
        assert_eq!(parse(&line(&noted(42))), Some(noted(42)));
        assert_eq!(line(&noted(1)).len(), line(&noted(i64::MAX)).len());
        for other in ["", "portcullis-mark 1 a", "portcullis-mark 2 a 1 00", "x\0y"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_latest_record_stays_whatever_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.mark");
        let mark = Mark::new(Some(path.clone()));
        assert_eq!(mark.noted().unwrap(), None);
        mark.note(3, noted(9).head);
        assert!(!path.exists(), "nothing is noted before it was begun");
        mark.begin(noted(5)).unwrap();
        mark.note(3, noted(7).head);
        mark.note(3, noted(6).head);
        let beside = Mark::new(Some(path.clone()));
        beside.begin(noted(6)).unwrap();
        assert_eq!(beside.noted_here(), Some(noted(7)), "what another process noted later stays");
        mark.note(3, noted(9).head);
        beside.note(3, noted(8).head);
        assert_eq!(Mark::new(Some(path.clone())).noted().unwrap(), Some(noted(9)));
        beside.note(4, noted(1).head);
        assert_eq!(Mark::new(Some(path)).noted().unwrap(), Some(Noted { line: 4, ..noted(1) }), "another line");
    }
}
