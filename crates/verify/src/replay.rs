//! The proofs that were used: each may be used once (RFC 9449 §11.1).

use std::collections::{BTreeSet, HashSet};

use aws_lc_rs::digest;

use crate::dpop::Proof;

/// What is remembered of a proof: a digest of its key and its id.
type Mark = [u8; 32];

/// For how long a proof is remembered after it is too old to be taken, in seconds: should the clock be put
/// back by less, it is still known.
const STEP: i64 = 60;

/// A proof that may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was used already.
    Replayed,
    /// As many as may be are remembered, and none of them is too old to be used.
    Full,
}

/// Remembers used proofs for as long as they would be taken again and a minute more, and not more than a
/// number of them.
pub(crate) struct Replay {
    marks: HashSet<Mark>,
    /// The same, by the last second in which they are remembered.
    by_end: BTreeSet<(i64, Mark)>,
    capacity: usize,
}

impl Replay {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { marks: HashSet::new(), by_end: BTreeSet::new(), capacity }
    }

    /// Marks a proof as used at `now` that is taken for `window` seconds after it was made.
    pub(crate) fn mark(&mut self, proof: &Proof, now: i64, window: i64) -> Result<(), Refused> {
        while let Some((end, mark)) = self.by_end.first().copied()
            && end < now
        {
            self.by_end.pop_first();
            self.marks.remove(&mark);
        }
        let mark = mark(proof);
        if self.marks.contains(&mark) {
            return Err(Refused::Replayed);
        }
        if self.marks.len() >= self.capacity {
            return Err(Refused::Full);
        }
        self.marks.insert(mark);
        self.by_end.insert((proof.iat + window + STEP, mark));
        Ok(())
    }
}

fn mark(proof: &Proof) -> Mark {
    let digest = digest::digest(&digest::SHA256, format!("{}.{}", proof.jkt, proof.jti).as_bytes());
    let mut mark = [0; 32];
    mark.copy_from_slice(digest.as_ref());
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(jkt: &str, jti: &str, iat: i64) -> Proof {
        Proof { jkt: jkt.into(), jti: jti.into(), iat, nonce: None }
    }

    #[test]
    fn a_proof_is_used_once_by_its_key() {
        let mut replay = Replay::new(10);
        assert_eq!(replay.mark(&proof("k", "a", 100), 100, 60), Ok(()));
        assert_eq!(replay.mark(&proof("k", "a", 100), 160, 60), Err(Refused::Replayed), "to its last second");
        assert_eq!(replay.mark(&proof("z", "z", 220), 220, 60), Ok(()), "a minute later");
        assert_eq!(replay.mark(&proof("k", "a", 100), 160, 60), Err(Refused::Replayed), "the clock was put back");
        assert_eq!(replay.mark(&proof("l", "a", 100), 100, 60), Ok(()), "another key has ids of its own");
        assert_eq!(replay.mark(&proof("k", "b", 100), 100, 60), Ok(()));
    }

    #[test]
    fn what_is_too_old_to_be_taken_is_forgotten() {
        let mut replay = Replay::new(2);
        replay.mark(&proof("k", "a", 100), 100, 60).unwrap();
        replay.mark(&proof("k", "b", 110), 100, 60).unwrap();
        assert_eq!(replay.mark(&proof("k", "c", 220), 220, 60), Err(Refused::Full));
        assert_eq!(replay.mark(&proof("k", "c", 221), 221, 60), Ok(()), "a went");
        assert_eq!(replay.mark(&proof("k", "b", 110), 221, 60), Err(Refused::Replayed), "b did not");
        assert_eq!(replay.marks.len(), replay.by_end.len());
    }

    #[test]
    fn when_it_is_full_only_new_proofs_are_refused() {
        let mut replay = Replay::new(1);
        replay.mark(&proof("k", "a", 100), 100, 60).unwrap();
        assert_eq!(replay.mark(&proof("k", "a", 100), 100, 60), Err(Refused::Replayed));
        assert_eq!(replay.mark(&proof("k", "b", 100), 100, 60), Err(Refused::Full));
    }
}
