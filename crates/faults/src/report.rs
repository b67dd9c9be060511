//! What a scenario found: counts, the longest recovery, and what must not have happened.

use std::time::Duration;

use crate::history::{Call, Outcome};

/// Longer than this a recovery takes nowhere, whatever else the machine has to do.
const MOST: Duration = Duration::from_secs(10);

/// What one scenario found.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls that clients made.
    pub calls: u64,
    /// Of these, such that nobody knows what came of them.
    pub unanswered: u64,
    /// Of these, such that the server did not do, and said so, or was not there.
    pub not_done: u64,
    /// Servers and databases killed, connections cut, clocks stepped, keys rotated.
    pub faults: u64,
    /// The longest time until a server was ready again after a fault.
    pub recovery: Duration,
    /// What else is worth a word.
    pub notes: Vec<String>,
    /// Recoveries that took longer than they may on a machine that has nothing else to do.
    pub slow: Vec<String>,
    /// What must not happen, and did.
    pub violations: Vec<String>,
}

impl Report {
    /// Counts calls.
    pub fn count(&mut self, calls: &[Call]) {
        for call in calls {
            self.calls += 1;
            self.unanswered += u64::from(call.is_unanswered());
            self.not_done += u64::from(matches!(call.outcome, Outcome::NotDone(_)));
        }
    }

    /// Takes note of a recovery, and of one that takes longer than `limit`. Whether that is a violation
    /// is for the long run to say: the quick set runs wherever tests do, beside other work. Ten seconds
    /// are too many there, too.
    pub fn recovered(&mut self, took: Duration, limit: Duration) {
        self.recovery = self.recovery.max(took);
        if took > limit {
            let found = if took > MOST { &mut self.violations } else { &mut self.slow };
            found.push(format!("ready again after {took:.1?}, and not within {limit:?}"));
        }
    }

    /// Adds what another run of the same scenario found.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.unanswered += other.unanswered;
        self.not_done += other.not_done;
        self.faults += other.faults;
        self.recovery = self.recovery.max(other.recovery);
        self.slow.extend(other.slow);
        self.violations.extend(other.violations);
        self.notes = other.notes;
    }

    /// The head of the table.
    #[must_use]
    pub fn head() -> String {
        "| Scenario | Calls | Faults | Not done | Unanswered | Longest recovery | Violations | Notes |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
            .to_owned()
    }

    /// Its line in the table.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        let recovery =
            if self.recovery.is_zero() { "".to_owned() } else { format!("{} ms", self.recovery.as_millis()) };
        format!(
            "| {name} | {} | {} | {} | {} | {recovery} | {} | {} |",
            self.calls,
            self.faults,
            self.not_done,
            self.unanswered,
            self.violations.len(),
            self.notes.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_slow_beyond_its_limit_and_a_violation_beyond_all_limits() {
        let mut report = Report::default();
        for (seconds, slow, violations) in [(2, 0, 0), (3, 1, 0), (10, 2, 0), (11, 2, 1)] {
            report.recovered(Duration::from_secs(seconds), Duration::from_secs(2));
            assert_eq!((report.slow.len(), report.violations.len()), (slow, violations), "{seconds}");
        }
    }
}
