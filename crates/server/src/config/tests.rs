//! What the settings take and refuse.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let flags = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::check(&Settings::gather(None, std::iter::empty(), &flags)?)
}

#[test]
fn the_defaults_are_good_and_loopback() {
    use portcullis_domain::tokens::TOKEN_LASTS_SECONDS;
    let config = config(&[]).unwrap();
    assert_eq!(config.public_url, "http://127.0.0.1:8080");
    assert_eq!(config.token_lifespan_seconds, TOKEN_LASTS_SECONDS);
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\norganization = \"file\"\nlog = \"warn\"\n").unwrap();
    let environment = || {
        [("PORTCULLIS_LISTEN", "127.0.0.1:2"), ("PORTCULLIS_ORGANIZATION", "env"), ("HOME", "/x")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
    };
    let flags = BTreeMap::from([("listen".to_owned(), "127.0.0.1:3".to_owned())]);
    let config = Config::check(&Settings::gather(Some(&file), environment(), &flags).unwrap()).unwrap();
    assert_eq!((config.listen.port(), config.organization.as_str(), config.log.as_str()), (3, "env", "warn"));
}

#[test]
fn an_unknown_name_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let error = Settings::gather(Some(&file), std::iter::empty(), &BTreeMap::new()).err().unwrap().to_string();
    assert!(error.contains("lisen") && error.contains("file"), "{error}");
    let environment = [("PORTCULLIS_TOKEN_LIFESPAN".to_owned(), "1".to_owned())].into_iter();
    let error = Settings::gather(None, environment, &BTreeMap::new()).err().unwrap().to_string();
    assert!(error.contains("did you mean token_lifespan_seconds?"), "{error}");
    let known = ["PORTCULLIS_CLIENT_SECRET", "PORTCULLIS_MASTER_KEY"].map(|n| (n.to_owned(), "x".to_owned()));
    assert!(Settings::gather(None, known.into_iter(), &BTreeMap::new()).is_ok());
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_what_to_do() {
    for (key, value) in [
        ("listen", "8080"),
        ("database_url", "mysql://x"),
        ("token_lifespan_seconds", "0"),
        ("token_lifespan_seconds", "a day"),
        ("password_min_chars", "4"),
        ("public_url", "http://127.0.0.1:8080/"),
        ("public_url", "ftp://x"),
        ("public_url", "https://ACME.example"),
        ("public_url", "https://acme.example:443"),
        ("public_url", "https://acme.example:"),
        ("public_url", "https://a..b"),
        ("public_url", "https://a;b"),
        ("listen", "127.0.0.1:0"),
        ("database_url", "postgres:/u:hunter2@h/db"),
        ("trusted_proxies", "proxy.example"),
        ("cors_origins", "*"),
        ("log_format", "xml"),
        ("mail_from", "nobody"),
        ("mail_from", "a@b, c@d"),
        ("deactivate_after_days", "-1"),
        ("smtp_url", "mail.acme.example"),
        ("smtp_url", "http://mail.acme.example"),
        ("smtp_url", "smtp://mail.acme.example?tls=none"),
        ("smtp_url", "smtp://mail.acme.example?tls=opportunistic"),
        ("smtp_url", "smtps://mail.acme.example?tls=none"),
        ("smtp_url", "smtps://mail.acme.example/x"),
    ] {
        let error = config(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("give"), "{key}={value}: {error}");
    }
}

#[test]
fn anything_but_loopback_wants_tls_and_says_so() {
    for bad in [
        &[("listen", "0.0.0.0:8080")][..],
        &[("public_url", "http://access.acme.example")],
        &[("public_url", "https://access.acme.example")],
        &[("tls_certificate", "c.pem")],
        &[("tls_certificate", "c.pem"), ("tls_key", "k.pem")],
    ] {
        assert!(matches!(config(bad), Err(ConfigError::Together(_))), "{bad:?}");
    }
    for good in [
        &[("listen", "[::1]:8080")][..],
        &[("public_url", "http://localhost:8080")],
        &[
            ("public_url", "https://access.acme.example"),
            ("trusted_proxies", "10.0.0.0/8"),
            ("listen", "0.0.0.0:80"),
        ],
        &[
            ("public_url", "https://a.example"),
            ("tls_certificate", "c"),
            ("tls_key", "k"),
            ("listen", "0.0.0.0:443"),
        ],
    ] {
        assert!(config(good).is_ok(), "{good:?}: {:?}", config(good).err());
    }
}

#[test]
fn l2_printing_masks_the_password_of_the_database() {
    for url in [
        "postgres://u:hunter2@h/db",
        "postgres://u@h/db?password=hunter2",
        "postgres://u:hun@hunter2@h/d",
        "postgres://u:5432/d?password=x@hunter2",
    ] {
        let flags = BTreeMap::from([("database_url".to_owned(), url.to_owned())]);
        let printed = Settings::gather(None, std::iter::empty(), &flags).unwrap().print();
        assert!(!printed.contains("hunter2") && printed.contains("postgres://u"), "{printed}");
    }
}

#[test]
fn protocol26_keys_take_over_no_faster_than_they_are_published_ahead() {
    let of = |rotation, ahead| config(&[("key_rotation_seconds", rotation), ("key_publish_ahead_seconds", ahead)]);
    let default = config(&[]).unwrap().keys;
    assert_eq!(default.rotation, Some(SignedDuration::from_hours(90 * 24)));
    assert_eq!(default.publish_ahead, SignedDuration::from_hours(1));
    assert!(matches!(of("3599", "3600"), Err(ConfigError::Together(_))));
    assert_eq!(of("1", "1").unwrap().keys.rotation, Some(SignedDuration::from_secs(1)), "as fast as every second");
    assert_eq!(of("0", "3600").unwrap().keys.rotation, None, "only by hand");
    assert!(of("3600", "0").is_err());
    for (bits, good) in [("2048", true), ("3072", true), ("1024", false), ("2049", false), ("4096", false)] {
        assert_eq!(config(&[("rsa_key_bits", bits)]).is_ok(), good, "{bits}");
    }
}
