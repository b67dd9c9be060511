use proptest::prelude::*;

use super::*;

const SCHEDULE: Schedule =
    Schedule { rotation: Some(SignedDuration::from_secs(1_000)), publish_ahead: SignedDuration::from_secs(100) };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(kid: &str, created: i64, active: Option<i64>) -> SigningKey {
    let life = Life::new(at(created), active.map(at));
    SigningKey { kid: kid.to_owned(), algorithm: Algorithm::Es256, life, longest_seconds: 600 }
}

fn two() -> Vec<SigningKey> {
    vec![key("a", 0, Some(0)), key("b", 0, None)]
}

#[test]
fn protocol26_a_key_goes_from_upcoming_to_active_to_retiring_to_retired() {
    let mut life = Life::new(at(0), None);
    assert_eq!((life.state(at(1)), life.is_published(at(1))), (State::Upcoming, true));
    life.active_at = Some(at(2));
    assert_eq!((life.state(at(2)), life.is_published(at(2))), (State::Active, true));
    (life.retiring_at, life.leaves_at) = (Some(at(3)), Some(at(9)));
    assert_eq!((life.state(at(8)), life.is_published(at(8))), (State::Retiring, true));
    assert_eq!((life.state(at(9)), life.is_published(at(9))), (State::Retired, false));
    life.withdrawn_at = Some(at(4));
    assert_eq!((life.state(at(5)), life.is_published(at(5))), (State::Withdrawn, false));
}

#[test]
fn protocol26_a_key_signs_only_when_it_was_published_for_long_enough() {
    let mut keys = two();
    keys[1].life.created_at = at(50);
    let early = rotate(&keys, Algorithm::Es256, &SCHEDULE, false, at(149)).unwrap_err();
    assert_eq!(early, KeyRefused::TooEarly(at(150)));
    assert!(early.to_string().contains("from 1970-01-01T00:02:30Z on"), "{early}");
    let now = rotate(&keys, Algorithm::Es256, &SCHEDULE, true, at(149)).unwrap();
    let then = rotate(&keys, Algorithm::Es256, &SCHEDULE, false, at(150)).unwrap();
    assert_eq!((now.active.as_str(), then.active.as_str()), ("b", "b"));
    let verifiers_keep_it = SignedDuration::from_secs(SCHEDULE.cached_seconds());
    assert!(verifiers_keep_it < SCHEDULE.publish_ahead);
}

#[test]
fn protocol26_an_old_key_stays_until_its_last_token_has_ended_plus_skew() {
    let rotation = rotate(&two(), Algorithm::Es256, &SCHEDULE, false, at(1_000)).unwrap();
    assert_eq!(rotation.retiring, ("a".to_owned(), at(1_000 + 600 + 60)));
}

#[test]
fn the_schedule_rotates_when_the_key_has_signed_for_so_long_and_the_next_one_is_ready() {
    let due = |keys: &[SigningKey], schedule: &Schedule, now| is_due(keys, Algorithm::Es256, schedule, at(now));
    let mut keys = two();
    assert!(!due(&keys, &SCHEDULE, 999) && due(&keys, &SCHEDULE, 1_000));
    assert!(!due(&keys, &Schedule { rotation: None, ..SCHEDULE }, 1_000_000), "only by hand");
    assert!(!is_due(&keys, Algorithm::Rs256, &SCHEDULE, at(1_000)), "nobody selected it");
    keys[1].life.created_at = at(950);
    assert!(!due(&keys, &SCHEDULE, 1_049) && due(&keys, &SCHEDULE, 1_050));
}

#[test]
fn a_withdrawn_key_gives_its_place_to_the_one_that_is_published() {
    let mut keys = two();
    let withdrawn = |keys: &[SigningKey], n: usize, now| withdraw(keys, &keys[n], at(now));
    let active = withdrawn(&keys, 0, 1).unwrap();
    assert_eq!(active, Withdrawal { active: Some("b".to_owned()), needs_upcoming: true });
    assert_eq!(withdrawn(&keys, 1, 1).unwrap(), Withdrawal { active: None, needs_upcoming: true });
    (keys[0].life.retiring_at, keys[0].life.leaves_at) = (Some(at(2)), Some(at(9)));
    assert_eq!(withdrawn(&keys, 0, 3).unwrap(), Withdrawal { active: None, needs_upcoming: false });
    assert_eq!(withdrawn(&keys, 0, 9), Err(KeyRefused::Over));
    keys[0].life.withdrawn_at = Some(at(3));
    assert_eq!(withdrawn(&keys, 0, 4), Err(KeyRefused::Over), "once");
}

#[test]
fn the_key_set_is_cached_for_less_time_than_a_key_is_published_ahead() {
    let cached =
        |ahead| Schedule { rotation: None, publish_ahead: SignedDuration::from_secs(ahead) }.cached_seconds();
    assert_eq!([1, 2, 100, 3600, 86_400].map(cached), [0, 1, 50, 300, 300]);
}

#[test]
fn the_key_id_is_the_thumbprint_of_the_public_key() {
    let hex = |key: PublicKey| key.thumbprint().iter().map(|b| format!("{b:02x}")).collect::<String>();
    // RFC 7638 §3.1.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let rsa = PublicKey::Rsa { n: n.to_owned(), e: "AQAB".to_owned() };
    assert_eq!(hex(rsa), "3736cbb1787cb8309c77ee8c3705c5e16ffb9e859715901f1e4c59b11182f57b");
    // RFC 8037 §A.3.
    let okp = PublicKey::Okp { x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned() };
    assert_eq!(hex(okp), "90facafea9b1556698540f70c0117a22ea37bd5cf3ed3c47093c1707282b4b89");
}

#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Rotate(bool),
    Withdraw(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_i64..400).prop_map(Step::Pass),
        any::<bool>().prop_map(Step::Rotate),
        (0_usize..6).prop_map(Step::Withdraw),
    ]
}

proptest! {
    /// Whatever is done to the keys of an algorithm, one signs, one is ready to take over, and nothing
    /// that left the key set comes back.
    #[test]
    fn protocol26_any_life_of_the_keys_leaves_one_active_and_one_upcoming(steps in prop::collection::vec(step(), 1..40)) {
        let (mut keys, mut now, mut made) = (two(), 0_i64, 2);
        let mut gone: Vec<String> = Vec::new();
        for step in steps {
            let mut needs_upcoming = false;
            match step {
                Step::Pass(seconds) => now += seconds,
                Step::Rotate(at_once) => {
                    if let Ok(Rotation { retiring: (old, end), active }) = rotate(&keys, Algorithm::Es256, &SCHEDULE, at_once, at(now)) {
                        let old = keys.iter_mut().find(|k| k.kid == old).unwrap();
                        (old.life.retiring_at, old.life.leaves_at) = (Some(at(now)), Some(end));
                        keys.iter_mut().find(|k| k.kid == active).unwrap().life.active_at = Some(at(now));
                        needs_upcoming = true;
                    }
                }
                Step::Withdraw(n) => {
                    let n = n % keys.len();
                    if let Ok(withdrawal) = withdraw(&keys, &keys[n], at(now)) {
                        keys[n].life.withdrawn_at = Some(at(now));
                        if let Some(active) = withdrawal.active {
                            keys.iter_mut().find(|k| k.kid == active).unwrap().life.active_at = Some(at(now));
                        }
                        needs_upcoming = withdrawal.needs_upcoming;
                    }
                }
            }
            if needs_upcoming {
                made += 1;
                keys.push(key(&made.to_string(), now, None));
            }
            for wanted in [State::Active, State::Upcoming] {
                prop_assert_eq!(keys.iter().filter(|k| k.life.state(at(now)) == wanted).count(), 1);
            }
            for kid in &gone {
                prop_assert!(!keys.iter().find(|k| k.kid == *kid).unwrap().life.is_published(at(now)));
            }
            gone = keys.iter().filter(|k| !k.life.is_published(at(now))).map(|k| k.kid.clone()).collect();
        }
    }
}
