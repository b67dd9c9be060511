use proptest::prelude::*;

use super::*;
use crate::secret::DigestKey;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn typed() -> Typed {
    Typed {
        name: " Orders ".to_owned(),
        identifier: "https://orders.acme.example".to_owned(),
        scopes: scopes_of("orders:read Read orders\n\n  orders:write\tPlace orders \r\n"),
        lifespan: "3600".to_owned(),
        algorithm: String::new(),
    }
}

fn api() -> Api {
    Api { id: Uuid::max(), settings: Settings::parse(&typed()).unwrap(), made_at: at(0) }
}

fn scope(name: &str, description: &str) -> Scope {
    Scope { name: name.to_owned(), description: description.to_owned() }
}

#[test]
fn what_was_typed_is_read() {
    let settings = api().settings;
    assert_eq!(settings.name, "Orders");
    assert_eq!(settings.scopes, [scope("orders:read", "Read orders"), scope("orders:write", "Place orders")]);
    assert_eq!(settings.lifespan_seconds, Some(3600));
    assert_eq!(scopes_of(&text_of(&settings.scopes)), settings.scopes);
    let none = Settings::parse(&Typed { scopes: Vec::new(), ..typed() }).unwrap();
    assert_eq!(scopes_of(&text_of(&none.scopes)), []);
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let nothing = Typed { scopes: vec![scope("a b", "x")], ..Typed::default() };
    let fields: Vec<&str> = Settings::parse(&nothing).unwrap_err().iter().map(|i| i.field).collect();
    assert_eq!(fields, ["name", "identifier", "scopes", "lifespan"]);
}

#[test]
fn protocol12_an_identifier_is_an_absolute_uri_without_a_fragment() {
    let longest = format!("urn:{}", "x".repeat(251));
    for good in
        ["https://orders.acme.example", "https://a.example/v1?x=%2F", "urn:acme:orders", "api://orders", &longest]
    {
        let settings = Settings::parse(&Typed { identifier: format!(" {good} "), ..typed() });
        assert_eq!(settings.unwrap().identifier, good);
    }
    let too_long = format!("{longest}x");
    for bad in [
        "",
        "orders",
        "/orders",
        "//orders",
        "https://",
        "https:///x",
        "https://?x",
        "https:",
        ":x",
        "1a:x",
        "https://a.example#",
        "https://a.example/#x",
        "https://a b",
        "https://a\"b",
        "https://a\\b",
        "https://a<b>",
        "https://é.example",
        "https://a.example/%",
        "https://a.example/%2",
        "https://a.example/%zz",
        "a\n:b",
        &too_long,
    ] {
        let wrong = Settings::parse(&Typed { identifier: bad.to_owned(), ..typed() }).unwrap_err();
        assert_eq!(wrong.iter().map(|i| i.field).collect::<Vec<_>>(), ["identifier"], "{bad:?}");
    }
}

#[test]
fn protocol11_scopes_keep_to_the_characters_of_the_rfc() {
    let many = |n: usize| (0..n).map(|at| scope(&format!("s{at}"), "x")).collect::<Vec<_>>();
    let long = "x".repeat(61);
    for good in [many(0), many(50), vec![scope("!#[]~'", "Anything <b>at all</b>, ação")]] {
        assert!(Settings::parse(&Typed { scopes: good.clone(), ..typed() }).is_ok(), "{good:?}");
    }
    for bad in [
        many(51),
        vec![scope("a", "x"), scope("a", "y")],
        vec![scope("", "x")],
        vec![scope("a b", "x")],
        vec![scope("a\"", "x")],
        vec![scope("a\\", "x")],
        vec![scope("é", "x")],
        vec![scope(&long, "x")],
        vec![scope("a", "")],
        vec![scope("a", "x\ny z")],
        vec![scope("a", &"x".repeat(121))],
    ] {
        let wrong = Settings::parse(&Typed { scopes: bad.clone(), ..typed() }).unwrap_err();
        assert_eq!(wrong.iter().map(|i| i.field).collect::<Vec<_>>(), ["scopes"], "{bad:?}");
    }
}

#[test]
fn the_algorithm_is_one_of_three_and_es256_when_nothing_is_said() {
    for (text, read) in [
        ("", Algorithm::Es256),
        ("ES256", Algorithm::Es256),
        ("EdDSA", Algorithm::EdDsa),
        ("RS256", Algorithm::Rs256),
    ] {
        let settings = Settings::parse(&Typed { algorithm: text.to_owned(), ..typed() }).unwrap();
        assert_eq!(settings.algorithm, read);
    }
    for bad in ["none", "HS256", "es256", " ES256"] {
        let wrong = Settings::parse(&Typed { algorithm: bad.to_owned(), ..typed() }).unwrap_err();
        assert_eq!(wrong.iter().map(|i| i.field).collect::<Vec<_>>(), ["algorithm"], "{bad:?}");
    }
    assert_eq!(Settings::own(String::new()).algorithm, Algorithm::Es256);
}

#[test]
fn t1_a_lifespan_is_a_minute_to_thirty_days() {
    for good in ["60", " 86400 ", "2592000"] {
        assert!(Settings::parse(&Typed { lifespan: good.to_owned(), ..typed() }).is_ok(), "{good}");
    }
    for bad in ["", "59", "0", "-60", "2592001", "1e3", "60.0", "a day", "99999999999999999999"] {
        let wrong = Settings::parse(&Typed { lifespan: bad.to_owned(), ..typed() }).unwrap_err();
        assert_eq!(wrong[0].field, "lifespan", "{bad:?}");
    }
    assert_eq!(api().lifespan(60), 3600);
    let own = Api { id: OWN, settings: Settings::own("https://x.example/api/v1".to_owned()), made_at: at(0) };
    assert_eq!(own.lifespan(60), 60, "the product's own is the setting's");
    assert!(own.is_own() && !api().is_own());
}

#[test]
fn protocol11_a_scope_is_narrowed_and_never_widened() {
    let api = api();
    assert_eq!(api.grant(None).unwrap(), "orders:read orders:write");
    assert_eq!(api.grant(Some("orders:write orders:read orders:write")).unwrap(), "orders:read orders:write");
    assert_eq!(api.grant(Some("orders:write")).unwrap(), "orders:write");
    let long = "orders:read ".repeat(400);
    for bad in ["admin", "orders:read admin", "orders:read  orders:write", " ", "", "ORDERS:READ", long.trim_end()]
    {
        assert_eq!(api.grant(Some(bad)), Err(InvalidScope), "{bad:?}");
    }
    let none = Api { settings: Settings { scopes: Vec::new(), ..api.settings.clone() }, ..api };
    assert_eq!(none.grant(None).unwrap(), "");
    assert_eq!(none.grant(Some("orders:read")), Err(InvalidScope));
}

fn key(n: u8, place: i64, ends: Option<i64>) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new([n; 20]),
        api: Uuid::max(),
        place,
        digest: DigestKey::new("k", &[1; 32]).digest(b"secret"),
        made_at: at(0),
        ends_at: ends.map(at),
    }
}

#[test]
fn the_form_of_the_id_of_a_key_never_changes() {
    let id = ApiKeyId::new([31; 20]);
    assert_eq!(id.as_str(), "pca_zzzzzzzzzzzzzzzzzzzz");
    assert_eq!(ApiKeyId::parse(id.as_str()), Some(id));
    for bad in ["pca_", "pcc_zzzzzzzzzzzzzzzzzzzz", "pca_zzzzzzzzzzzzzzzzzzzzz", "pca_uzzzzzzzzzzzzzzzzzzz"] {
        assert_eq!(ApiKeyId::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_new_key_takes_over_and_the_old_one_works_for_the_overlap() {
    let day = rotate(&[key(1, 1, None)], Overlap::Day, at(10)).unwrap();
    assert_eq!(day.ending, [(ApiKeyId::new([1; 20]), at(86_410))]);
    assert_eq!((day.place, day.gone.len()), (2, 0));
    let never_longer = rotate(&[key(1, 2, Some(20))], Overlap::Week, at(10)).unwrap();
    assert_eq!((never_longer.ending[0].1, never_longer.place), (at(20), 1));
    let at_once = rotate(&[key(1, 1, None), key(2, 2, Some(90))], Overlap::AtOnce, at(10)).unwrap();
    assert_eq!((at_once.gone.len(), at_once.ending.len(), at_once.place), (2, 0, 1));
    assert_eq!(rotate(&[], Overlap::Day, at(10)).unwrap().place, 1, "the first one");
    let two = [key(1, 1, Some(90)), key(2, 2, None)];
    assert_eq!(rotate(&two, Overlap::Hour, at(10)), Err(ApiRefused::TooManyKeys));
    let ended = rotate(&two, Overlap::Hour, at(90)).unwrap();
    assert_eq!((ended.gone, ended.place), (vec![ApiKeyId::new([1; 20])], 1));
}

proptest! {
    #[test]
    fn however_keys_are_made_two_at_most_are_valid(
        acts in prop::collection::vec((0usize..4, 0i64..200_000), 1..30)
    ) {
        let (mut keys, mut now) = (Vec::<ApiKey>::new(), 0);
        for (n, (overlap, passed)) in acts.into_iter().enumerate() {
            now += passed;
            let Ok(rotation) = rotate(&keys, Overlap::ALL[overlap], at(now)) else {
                prop_assert_eq!(keys.iter().filter(|k| k.is_valid(at(now))).count(), KEYS_MAX);
                continue;
            };
            keys.retain(|k| !rotation.gone.contains(&k.id));
            for (id, end) in rotation.ending {
                let key = keys.iter_mut().find(|k| k.id == id).unwrap();
                prop_assert!(key.ends_at.is_none_or(|before| end <= before));
                key.ends_at = Some(end);
            }
            prop_assert!(keys.iter().all(|k| k.place != rotation.place));
            keys.push(key(n as u8, rotation.place, None));
            prop_assert!(keys.len() <= KEYS_MAX);
            prop_assert!(keys.last().unwrap().is_valid(at(now)));
        }
    }
}
