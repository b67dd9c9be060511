use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn credential(idx: u64, standing: Option<Standing>) -> Told {
    Told::Credential { idx, standing }
}

/// A story told in seconds, on a clock of its own.
struct Story {
    knowledge: Knowledge,
    start: Instant,
}

impl Story {
    fn new() -> Self {
        Self { knowledge: Knowledge::default(), start: crate::clock::instant() }
    }

    fn at(&self, second: u32) -> Instant {
        self.start + SECOND * second
    }

    fn tell(&mut self, second: u32, told: &Told) {
        self.knowledge.take(told, self.at(second), 1_000);
    }

    fn list(&mut self, second: u32, values: &[u8]) {
        let began = self.at(second);
        self.knowledge.take_list(List { values: values.into(), began });
    }

    fn judge(&self, second: u32, idx: u64) -> Result<(), NotGood> {
        self.knowledge.judge(idx, "j", WhenStale::GoOnUntilExpiry, self.at(second))
    }
}

#[test]
fn nothing_known_is_not_good_whatever_the_choice() {
    let story = Story::new();
    assert_eq!(story.judge(0, 1), Err(NotGood::Stale));
}

#[test]
fn the_feed_rules_while_it_is_live() {
    let mut story = Story::new();
    story.list(0, &[0b10_01_00_00]);
    story.knowledge.begin_anew();
    story.tell(1, &credential(0, Some(Standing::Suspended)));
    story.tell(1, &Told::Hello);
    assert_eq!(story.judge(2, 0), Err(NotGood::Suspended));
    assert_eq!(story.judge(2, 3), Ok(()), "whatever the list says");
    assert_eq!(story.judge(2, 1_000_000), Ok(()), "and however long it is");
    story.tell(3, &credential(0, None));
    assert_eq!(story.judge(3, 0), Ok(()));
}

#[test]
fn the_feed_is_live_only_from_the_hello_and_while_it_is_heard() {
    let mut story = Story::new();
    story.knowledge.begin_anew();
    story.tell(0, &credential(1, None));
    assert!(!story.knowledge.is_live(story.at(0)), "before the hello");
    story.tell(1, &Told::Hello);
    assert!(story.knowledge.is_live(story.at(6)));
    assert!(!story.knowledge.is_live(story.at(7)), "silence");
    let at = story.at(7);
    story.knowledge.hear(at);
    assert!(story.knowledge.is_live(story.at(12)), "a comment");
    story.knowledge.lose_feed();
    assert!(!story.knowledge.is_live(story.at(7)));
}

#[test]
fn revoked_is_final() {
    let mut story = Story::new();
    story.tell(0, &Told::Hello);
    story.tell(1, &credential(1, Some(Standing::Revoked)));
    story.tell(2, &credential(1, None));
    story.tell(2, &credential(1, Some(Standing::Suspended)));
    assert_eq!(story.judge(2, 1), Err(NotGood::Revoked));
    story.knowledge.lose_feed();
    story.list(3, &[0]);
    assert_eq!(story.judge(3, 1), Err(NotGood::Revoked), "also when the list says valid");
    assert_eq!(keep_revoked(&[0b01_10_00_01], vec![0b00_00_11_10, 0b11]), [0b01_00_11_01, 0b11]);
    assert_eq!(keep_revoked(&[0b01, 0b01], vec![0]), [0b01], "a shorter one");
}

#[test]
fn without_the_feed_the_list_rules_over_credentials() {
    let mut story = Story::new();
    story.tell(0, &credential(0, Some(Standing::Suspended)));
    story.tell(0, &Told::Token { jti: "j2".into(), exp: 2_000 });
    story.tell(0, &Told::Hello);
    story.knowledge.lose_feed();
    assert_eq!(story.judge(1, 0), Err(NotGood::Suspended), "no list yet: as the feed said");
    story.list(1, &[0b11_10_01_00]);
    assert_eq!(story.judge(1, 0), Ok(()));
    assert_eq!(story.judge(1, 1), Err(NotGood::Revoked));
    assert_eq!(story.judge(1, 2), Err(NotGood::Suspended));
    assert_eq!(story.judge(1, 3), Err(NotGood::Suspended), "a value without a meaning");
    assert_eq!(story.judge(1, 4), Err(NotGood::OutOfList));
    let token = story.knowledge.judge(0, "j2", WhenStale::GoOnUntilExpiry, story.at(1));
    assert_eq!(token, Err(NotGood::Revoked), "single tokens stay known");
}

#[test]
fn a_list_that_was_asked_for_before_the_last_event_lifts_nothing() {
    let mut story = Story::new();
    story.tell(0, &Told::Hello);
    story.knowledge.lose_feed();
    story.list(5, &[0b00_10_00_00]);
    // The feed resumes and tells one of several changes, and ends.
    story.tell(6, &credential(0, Some(Standing::Suspended)));
    story.knowledge.lose_feed();
    assert_eq!(story.judge(6, 0), Err(NotGood::Suspended), "the event is newer");
    assert_eq!(story.judge(6, 2), Err(NotGood::Suspended), "and what the list knew is not forgotten");
    story.list(7, &[0]);
    assert_eq!(story.judge(7, 0), Ok(()));
}

#[test]
fn a_reset_forgets_only_once_everything_was_told_anew() {
    let mut story = Story::new();
    story.tell(0, &credential(1, Some(Standing::Revoked)));
    story.tell(0, &Told::Token { jti: "j".into(), exp: 2_000 });
    story.tell(0, &Told::Hello);
    story.tell(1, &Told::Reset);
    assert!(!story.knowledge.is_live(story.at(1)));
    assert_eq!(story.judge(1, 1), Err(NotGood::Revoked));
    story.tell(2, &credential(2, Some(Standing::Suspended)));
    assert_eq!(story.judge(2, 1), Err(NotGood::Revoked), "not yet");
    story.tell(3, &Told::Hello);
    assert_eq!(story.judge(3, 1), Ok(()));
    assert_eq!(story.judge(3, 2), Err(NotGood::Suspended));
}

#[test]
fn a_feed_that_ends_before_the_hello_takes_nothing_away() {
    let mut story = Story::new();
    story.tell(0, &credential(1, Some(Standing::Suspended)));
    story.tell(0, &Told::Hello);
    story.knowledge.lose_feed();
    story.knowledge.begin_anew();
    story.knowledge.lose_feed();
    story.tell(1, &Told::Hello);
    assert_eq!(story.judge(1, 1), Err(NotGood::Suspended), "resumed");
}

#[test]
fn when_both_are_stale_the_choice_decides() {
    let mut story = Story::new();
    story.tell(0, &Told::Hello);
    story.knowledge.lose_feed();
    story.list(10, &[0b01_00]);
    let refuse = |story: &Story, second, idx| {
        story.knowledge.judge(idx, "j", WhenStale::RefuseAfter(SECOND * 30), story.at(second))
    };
    assert_eq!(refuse(&story, 40, 0), Ok(()));
    assert_eq!(refuse(&story, 41, 0), Err(NotGood::Stale));
    assert_eq!(refuse(&story, 41, 1), Err(NotGood::Revoked), "what is known is said");
    assert_eq!(story.judge(86_400, 0), Ok(()));
    assert_eq!(story.judge(86_400, 1), Err(NotGood::Revoked));
    story.list(50, &[0]);
    assert_eq!(refuse(&story, 51, 0), Ok(()), "until the list can be had again");
}

#[test]
fn revoked_tokens_are_forgotten_when_they_have_long_expired() {
    let mut story = Story::new();
    story.tell(0, &Told::Token { jti: "old".into(), exp: 399 });
    story.tell(0, &Told::Token { jti: "new".into(), exp: 400 });
    story.tell(0, &Told::Hello);
    assert_eq!(story.knowledge.tales.tokens.keys().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn revoked_tokens_are_forgotten_also_while_the_feed_stays_live() {
    let mut story = Story::new();
    story.tell(0, &Told::Hello);
    // One a second, each for a minute, for more than a day.
    for unix in 0..100_000 {
        let token = Told::Token { jti: unix.to_string(), exp: unix + 60 };
        story.knowledge.take(&token, story.start, unix);
        assert!(story.knowledge.tales.tokens.len() <= 2 * MANY);
    }
    let first_that_counts = 100_000 - 60 - LEEWAY;
    for unix in first_that_counts..100_000 {
        assert!(story.knowledge.tales.tokens.contains_key(&unix.to_string()), "{unix}");
    }
}

proptest! {
    /// Whatever came in whatever order: a credential that was revoked after the last reset is not good.
    #[test]
    fn no_order_of_events_revives_what_was_revoked(
        steps in prop::collection::vec((0_u8..6, 0_u64..4), 0..40),
    ) {
        let mut story = Story::new();
        let mut revoked = std::collections::HashSet::new();
        for (second, (step, idx)) in steps.into_iter().enumerate() {
            let second = u32::try_from(second).unwrap();
            match step {
                0 => story.tell(second, &credential(idx, None)),
                1 => story.tell(second, &credential(idx, Some(Standing::Suspended))),
                2 => {
                    story.tell(second, &credential(idx, Some(Standing::Revoked)));
                    revoked.insert(idx);
                }
                3 => story.tell(second, &Told::Hello),
                4 => story.list(second, &[0]),
                _ => story.knowledge.lose_feed(),
            }
            for idx in &revoked {
                prop_assert_eq!(story.judge(second, *idx), Err(NotGood::Revoked));
            }
        }
    }
}
