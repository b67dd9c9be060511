//! The form of a token request and of its answers.

use reqwest::{Method, StatusCode, header};

use super::{GRANT, basic, in_body};
use crate::support::{FORM, Program, World, header_of, json, oauth_error, on_both, on_sqlite};

on_sqlite! {
    protocol01_every_method_but_post_is_405_with_allow_post
    protocol02_a_json_or_multipart_body_is_invalid_request
    protocol03_any_repeated_parameter_is_invalid_request_even_with_equal_values
    protocol05_a_secret_in_the_query_string_is_refused_even_when_it_is_right
    protocol10_every_other_grant_is_unsupported_and_password_does_not_exist
    protocol12_an_unknown_resource_is_invalid_target
    protocol14_hostile_input_never_reaches_the_description
}

on_both! {
    protocol04_an_empty_parameter_counts_as_absent_and_an_unknown_one_is_ignored
    protocol11_a_scope_is_narrowed_and_echoed_and_never_widened
    protocol13_a_success_is_json_that_is_not_stored_with_no_refresh_token
}

/// A token request of a program with HTTP Basic and a body as given.
async fn ask(program: &Program, body: &str) -> reqwest::Response {
    let request = program.client.post(format!("{}/oauth/token", program.url));
    let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
    request.header(header::CONTENT_TYPE, FORM).body(body.to_owned()).send().await.unwrap()
}

async fn protocol01_every_method_but_post_is_405_with_allow_post(world: World) {
    let program = world.maria().await.generate().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = world.stranger().request(method.clone(), "/oauth/token");
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        let response = request.header(header::CONTENT_TYPE, FORM).body(GRANT).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(header_of(&response, "allow"), "POST", "{method}");
        assert_eq!(header_of(&response, "cache-control"), "no-store", "{method}");
    }
}

async fn protocol02_a_json_or_multipart_body_is_invalid_request(world: World) {
    let program = world.maria().await.generate().await;
    let post = |types: &[&str], body: &str| {
        let mut request = world.stranger().request(Method::POST, "/oauth/token");
        for media_type in types {
            request = request.header(header::CONTENT_TYPE, *media_type);
        }
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        request.body(body.to_owned()).send()
    };
    let multipart =
        "--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--b--\r\n";
    for (types, body) in [
        (&["application/json"][..], r#"{"grant_type":"client_credentials"}"#),
        (&["application/json; charset=utf-8"], GRANT),
        (&["multipart/form-data; boundary=b"], multipart),
        (&["text/plain"], GRANT),
        (&["application/x-www-form-urlencoded-not"], GRANT),
        (&["application/json", FORM], GRANT),
        (&[FORM, FORM], GRANT),
        (&[""], GRANT),
        (&[], GRANT),
    ] {
        oauth_error(post(types, body).await.unwrap(), 400, "invalid_request").await;
    }
    for good in [FORM, "application/x-www-form-urlencoded; charset=UTF-8", "APPLICATION/X-WWW-FORM-URLENCODED"] {
        assert_eq!(post(&[good], GRANT).await.unwrap().status(), StatusCode::OK, "{good}");
    }
}

async fn protocol03_any_repeated_parameter_is_invalid_request_even_with_equal_values(world: World) {
    let program = world.maria().await.generate().await;
    for twice in [
        "grant_type=client_credentials",
        "gr%61nt_type=client_credentials",
        "grant_type=password",
        "grant_type=",
        "scope=users:read&scope=users:read",
        "scope=&scope=",
        "resource=&resource=x",
        "unknown=1&unknown=1",
        "unknown&unknown",
        "=&=",
        "%75nknown=1&unknown=2",
    ] {
        oauth_error(ask(&program, &format!("{GRANT}&{twice}")).await, 400, "invalid_request").await;
    }
    let client = in_body(&program);
    for twice in [format!("client_id={}", program.client_id), format!("client_secret={}", program.client_secret)] {
        let body = format!("{GRANT}&{client}&{twice}");
        oauth_error(world.stranger().token(&body).send().await.unwrap(), 400, "invalid_request").await;
    }
    assert_eq!(ask(&program, &format!("{GRANT}&a=1&A=1")).await.status(), StatusCode::OK, "names have a case");
}

async fn protocol04_an_empty_parameter_counts_as_absent_and_an_unknown_one_is_ignored(world: World) {
    let program = world.maria().await.generate().await;
    for ignored in [
        "scope=",
        "client_id=&client_secret=",
        "resource=&scope=",
        "audience=elsewhere&state=1",
        "client_assertion=&client_assertion_type=",
        "sub=somebody&client=other&exp=99999999999",
        "scope",
        "&&&",
    ] {
        let response = ask(&program, &format!("{GRANT}&{ignored}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{ignored}");
        let body = json(response).await;
        assert_eq!(body["scope"], "users:read audit:read apis:read", "{ignored}");
        assert!(program.is_active(body["access_token"].as_str().unwrap()).await);
    }
    for missing in ["", "grant_type=", "grant_type", "scope=users:read"] {
        oauth_error(ask(&program, missing).await, 400, "invalid_request").await;
    }
    for empty in ["client_secret=", "client_secret=x&client_id=", ""] {
        let body = format!("{GRANT}&client_id={}&{empty}", program.client_id);
        let body = if empty.contains("client_id") { format!("{GRANT}&{empty}") } else { body };
        oauth_error(world.stranger().token(&body).send().await.unwrap(), 401, "invalid_client").await;
    }
}

async fn protocol05_a_secret_in_the_query_string_is_refused_even_when_it_is_right(world: World) {
    let program = world.maria().await.generate().await;
    let client = in_body(&program);
    let send = |query: String, body: String, authorization: Option<String>| {
        let mut request = world.stranger().request(Method::POST, &format!("/oauth/token?{query}"));
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.header(header::CONTENT_TYPE, FORM).body(body).send()
    };
    let right = basic(&program.client_id, &program.client_secret);
    for (query, body, authorization) in [
        (client.clone(), GRANT.to_owned(), None),
        (format!("{GRANT}&{client}"), String::new(), None),
        (client.clone(), format!("{GRANT}&{client}"), None),
        (client.clone(), GRANT.to_owned(), Some(right.clone())),
        (client.replace("client_secret", "client%5Fsecret"), GRANT.to_owned(), Some(right.clone())),
        ("client_secret=".to_owned(), GRANT.to_owned(), Some(right.clone())),
        ("client_assertion=x".to_owned(), GRANT.to_owned(), Some(right.clone())),
    ] {
        let response = send(query, body, authorization).await.unwrap();
        let said = oauth_error(response, 400, "invalid_request").await;
        assert!(!said.contains(&program.client_secret));
    }
    // Parameters in the query are not the request's parameters.
    let response = send(GRANT.to_owned(), String::new(), Some(right.clone())).await.unwrap();
    oauth_error(response, 400, "invalid_request").await;
    assert_eq!(send("x=1".to_owned(), GRANT.to_owned(), Some(right)).await.unwrap().status(), StatusCode::OK);
}

async fn protocol10_every_other_grant_is_unsupported_and_password_does_not_exist(world: World) {
    let program = world.maria().await.generate().await;
    for grant in [
        "grant_type=password&username=maria@acme.example&password=tide+lantern+walnut+orbit",
        "grant_type=authorization_code&code=x&redirect_uri=https://app.example",
        "grant_type=refresh_token&refresh_token=x",
        "grant_type=implicit",
        "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=x",
        "grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=x",
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x",
        "grant_type=CLIENT_CREDENTIALS",
        "grant_type=+client_credentials",
        "grant_type=client_credentials%00",
        "grant_type=client_credentials,password",
    ] {
        oauth_error(ask(&program, grant).await, 400, "unsupported_grant_type").await;
    }
}

async fn protocol11_a_scope_is_narrowed_and_echoed_and_never_widened(world: World) {
    let program = world.maria().await.generate().await;
    for (asked, granted) in [
        ("users:read", "users:read"),
        ("audit:read", "audit:read"),
        ("audit:read+users:read", "users:read audit:read"),
        ("users:read+users:read", "users:read"),
        ("", "users:read audit:read apis:read"),
    ] {
        let body = json(ask(&program, &format!("{GRANT}&scope={asked}")).await).await;
        assert_eq!(body["scope"], granted, "{asked}");
        let token = body["access_token"].as_str().unwrap();
        let seen = json(program.oauth("introspect", &[("token", token)]).await).await;
        assert_eq!(seen["scope"], granted, "{asked}");
    }
    for beyond in [
        "admin",
        "users:read+admin",
        "users:write",
        "openid",
        "*",
        "+",
        "users:read++audit:read",
        "+users:read",
        "USERS:READ",
        "users:read%00",
        "users:read%09audit:read",
        "users:read,audit:read",
        "%22%5C%C3%A9",
    ] {
        oauth_error(ask(&program, &format!("{GRANT}&scope={beyond}")).await, 400, "invalid_scope").await;
    }
}

async fn protocol12_an_unknown_resource_is_invalid_target(world: World) {
    let program = world.maria().await.generate().await;
    let own = format!("{}/api/v1", world.url);
    let response = ask(&program, &format!("{GRANT}&resource={own}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    for wrong in [
        "https://elsewhere.example/api".to_owned(),
        format!("{own}/"),
        format!("{own}%23part"),
        world.url.clone(),
        own.to_uppercase(),
        "not+a+url".to_owned(),
        "%22%5C%C3%A9%0A".to_owned(),
    ] {
        let response = ask(&program, &format!("{GRANT}&resource={wrong}")).await;
        oauth_error(response, 400, "invalid_target").await;
    }
}

async fn protocol13_a_success_is_json_that_is_not_stored_with_no_refresh_token(world: World) {
    let program = world.maria().await.generate().await;
    let response = program.ask().await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "cache-control"), "no-store");
    assert_eq!(header_of(&response, "pragma"), "no-cache");
    assert_eq!(header_of(&response, "content-type"), "application/json");
    let body = json(response).await;
    let mut members: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["access_token", "expires_in", "scope", "token_type"], "no refresh token");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"].as_u64(), Some(86_400), "T-1, T-2: a number");
}

async fn protocol14_hostile_input_never_reaches_the_description(world: World) {
    let program = world.maria().await.generate().await;
    let hostile = "%22%5C%0D%0A%C3%A9%3Cscript%3E%E2%80%AE%00%7F";
    for (body, status, code) in [
        (format!("{GRANT}&scope={hostile}"), 400, "invalid_scope"),
        (format!("{GRANT}&resource={hostile}"), 400, "invalid_target"),
        (format!("grant_type={hostile}"), 400, "unsupported_grant_type"),
        (format!("{GRANT}&{hostile}={hostile}&{hostile}=1"), 400, "invalid_request"),
        (format!("{GRANT}&client_id={hostile}"), 400, "invalid_request"),
    ] {
        let said = oauth_error(ask(&program, &body).await, status, code).await;
        assert!(!said.contains("script"), "{said}");
    }
    let body = format!("{GRANT}&client_id={hostile}&client_secret={hostile}");
    let said = oauth_error(world.stranger().token(&body).send().await.unwrap(), 401, "invalid_client").await;
    assert!(!said.contains("script"), "{said}");
    // Bytes that are not UTF-8 are somebody's text too.
    let body = format!("{GRANT}&client_id=%FF%FE&client_secret=%C0%80");
    oauth_error(world.stranger().token(&body).send().await.unwrap(), 401, "invalid_client").await;
    assert!(world.app.store.verify_audit().await.unwrap().broken.is_none());
}
