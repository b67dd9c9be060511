use super::*;

fn from(authorization: &[&str], path: &str) -> Result<(Scheme, String), Error> {
    let request = Request { method: "GET", path, authorization, dpop: &[] };
    presented(&request).map(|(scheme, text)| (scheme, text.to_owned()))
}

#[test]
fn a_token_comes_once_and_in_the_header() {
    for header in ["Bearer abc", "bearer abc", "BEARER   abc", " Bearer abc "] {
        assert_eq!(from(&[header], "/a?b=c"), Ok((Scheme::Bearer, "abc".into())), "{header}");
    }
    assert_eq!(from(&["DPoP abc"], "/"), Ok((Scheme::Dpop, "abc".into())));
    assert_eq!(from(&["dpop abc"], "/"), Ok((Scheme::Dpop, "abc".into())));
}

#[test]
fn without_a_token_none_is_missed() {
    assert_eq!(from(&[], "/"), Err(Error::NoToken));
    for header in ["", "Basic YTpi", "Bearerabc", "Token abc"] {
        assert_eq!(from(&[header], "/"), Err(Error::NoToken), "{header}");
    }
}

#[test]
fn a_token_in_the_url_or_sent_twice_is_refused() {
    for (headers, path) in [
        (vec!["Bearer abc", "Bearer abc"], "/"),
        (vec!["Bearer abc", "Basic YTpi"], "/"),
        (vec!["Bearer"], "/"),
        (vec!["Bearer "], "/"),
        (vec!["Bearer abc"], "/?access_token=abc"),
        (vec![], "/?a=b&access_token=abc"),
        (vec![], "/?access%5Ftoken=abc"),
    ] {
        assert!(matches!(from(&headers, path), Err(Error::Request(_))), "{headers:?} {path}");
    }
}

fn checked(builder: Builder) -> Result<Option<String>, StartError> {
    let mut builder = builder;
    builder.check().map(|()| builder.choices.public_url)
}

#[test]
fn the_public_url_is_that_of_the_audience_unless_it_is_said() {
    let builder = |audience: &str| {
        Verifier::builder("https://id.acme.example", audience).when_stale(WhenStale::GoOnUntilExpiry)
    };
    let url = |text: &str| Some(text.to_owned());
    assert_eq!(checked(builder("https://orders.acme.example/v1")).unwrap(), url("https://orders.acme.example"));
    for (given, base) in [
        ("https://Orders.acme.example:8443/", "https://orders.acme.example:8443"),
        ("https://acme.example/orders/v1", "https://acme.example/orders/v1"),
        ("https://acme.example/orders/", "https://acme.example/orders"),
    ] {
        assert_eq!(checked(builder("https://else.example").public_url(given)).unwrap(), url(base));
    }
    for bad in
        ["orders", "", "urn:orders", "ftp://acme.example", "https://acme.example/?a", "https://acme.example/#a"]
    {
        let refused = checked(builder("https://orders.acme.example").public_url(bad));
        assert!(matches!(refused, Err(StartError::ApiUrl(said)) if said == bad), "{bad}");
    }
    assert_eq!(checked(builder("urn:orders")).unwrap(), None);
    assert!(matches!(checked(builder("urn:orders").require_dpop()), Err(StartError::PublicUrl)));
    let quote = builder("orders").resource_metadata("https://a/\"");
    assert!(matches!(checked(quote), Err(StartError::Header(_))));
}

#[test]
fn clocks_may_be_a_minute_apart_at_most() {
    let leeway = |seconds| {
        let builder =
            Verifier::builder("https://id.acme.example", "orders").when_stale(WhenStale::GoOnUntilExpiry);
        builder.leeway(Duration::from_secs(seconds)).leeway
    };
    assert_eq!([0, 59, 60, 61, u64::MAX].map(leeway), [0, 59, 60, 60, 60]);
}
