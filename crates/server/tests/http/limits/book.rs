//! The table of the book, line by line, with the tests that go beyond each limit from outside. A line
//! without a test, or a test that is gone, fails.

use std::path::Path;

/// The beginning of a line, and its tests.
const TESTED: [(&str, &[&str]); 43] = [
    (
        "connections |",
        &[
            "protocol43_while_all_places_are_taken_the_next_connection_waits_until_one_is_free",
            "protocol43_idle_connections_do_not_stop_others",
        ],
    ),
    ("connections of one address", &["protocol43_one_address_gets_half_of_the_connections"]),
    ("TLS handshake", &["protocol43_a_handshake_that_does_not_come_is_given_up"]),
    ("the first head", &["protocol43_slow_heads_and_slow_bodies_are_closed_at_their_deadline"]),
    (
        "a connection on which no request begins",
        &[
            "protocol43_slow_heads_and_slow_bodies_are_closed_at_their_deadline",
            "protocol43_pings_and_settings_without_requests_do_not_keep_a_connection",
        ],
    ),
    (
        "head of a request",
        &[
            "protocol43_too_many_or_too_large_headers_are_431_and_early",
            "protocol43_the_longest_url_is_a_page_that_is_not_there_and_a_longer_one_is_refused",
            "protocol43_http2_announces_its_limits_and_more_requests_wait",
        ],
    ),
    ("headers of a request", &["protocol43_too_many_or_too_large_headers_are_431_and_early"]),
    (
        "body of a request",
        &[
            "protocol43_a_body_over_64_kib_is_refused_at_every_door",
            "protocol43_heads_and_bodies_without_an_end_fill_no_memory",
        ],
    ),
    ("whole request", &["protocol43_slow_heads_and_slow_bodies_are_closed_at_their_deadline"]),
    (
        "requests under way at SIGTERM",
        &["a_request_that_does_not_end_is_waited_for_as_long_as_shutdown_seconds_says"],
    ),
    ("a body that nobody wants", &["protocol43_a_body_that_nobody_wants_is_not_read_for_ever"]),
    (
        "an answer that the client does not read",
        &[
            "protocol43_who_does_not_read_the_answers_loses_the_place",
            "protocol43_an_http2_client_that_reads_nothing_loses_the_place",
        ],
    ),
    ("requests at once on one HTTP/2", &["protocol43_http2_announces_its_limits_and_more_requests_wait"]),
    ("streams opened and reset", &["protocol43_streams_that_are_opened_and_reset_end_the_connection"]),
    (
        "errors of a client that",
        &["protocol43_a_hundred_errors_are_answered_with_a_reset_and_the_next_one_ends_the_connection"],
    ),
    (
        "bodies on one HTTP/2 connection",
        &["protocol43_256_kib_of_bodies_that_nobody_reads_are_taken_in_and_more_ends_the_connection"],
    ),
    ("headers of HTTP/2 that go on", &["protocol43_headers_that_never_end_end_the_connection"]),
    ("pings and settings", &["protocol43_pings_and_settings_without_requests_do_not_keep_a_connection"]),
    ("HTTP/2 connection that does not", &["protocol43_an_http2_client_that_answers_no_ping_is_closed"]),
    ("depth of JSON", &["protocol43_deep_and_broken_json_is_a_clear_refusal"]),
    ("parameters of an OAuth request", &["protocol43_more_than_64_parameters_are_refused"]),
    ("items on a page", &["the_log_is_filtered_by_event_outcome_actor_subject_and_time"]),
    ("followers of the feed", &["followers_have_places_and_no_more"]),
    ("a follower that does not read", &["protocol43_who_follows_and_does_not_read_loses_the_place"]),
    ("token requests waiting", &["protocol43_4096_token_requests_wait_and_more_are_told_to_come_again"]),
    ("refusals waiting", &["protocol43_2048_refusals_wait_to_be_recorded_and_more_are_told_to_come_again"]),
    ("acts of a node waiting", &["protocol43_nobody_waits_for_the_database_for_ever"]),
    ("waiting for the database", &["protocol43_nobody_waits_for_the_database_for_ever"]),
    (
        "password checks at once",
        &[
            "a_flood_of_sign_ins_is_told_to_wait_and_leaves_tokens_alone",
            "protocol43_of_all_networks_together_64_wait_for_a_password_check_and_more_are_told_to_come_again",
        ],
    ),
    (
        "failing clients",
        &[
            "protocol18_a_stranger_s_failures_never_refuse_the_rightful_client",
            "protocol18_120_failures_of_one_address_are_answered_in_a_minute_and_20_of_one_client",
        ],
    ),
    ("failing sign-ins", &["a8_failures_are_counted_over_all_doors_and_spellings"]),
    (
        "addresses that are told apart",
        &[
            "protocol43_made_up_addresses_share_what_one_has",
            "protocol43_beyond_40_000_addresses_all_others_share_what_one_has",
        ],
    ),
    ("a sign-in between its factors", &["a_step_is_over_after_five_minutes_or_five_wrong_codes"]),
    ("wishes for a new password", &["nobody_s_mailbox_is_flooded"]),
    ("such wishes being answered", &["protocol43_of_many_wishes_for_a_password_at_once_64_are_answered"]),
    ("mails that strangers", &["nobody_s_mailbox_is_flooded"]),
    ("visits to sign-in providers", &["protocol43_a_stranger_begins_sixty_things_and_then_one_a_second"]),
    (
        "waiting for one sign-in provider",
        &["a_provider_that_hangs_holds_up_nobody_else", "documents_that_are_not_right_are_refused_and_bounded"],
    ),
    ("a visit to a sign-in provider", &["protocol40_an_answer_counts_once"]),
    ("passkeys of a user", &["protocol43_the_21st_provider_and_the_21st_passkey_are_refused"]),
    ("APIs, ", &["protocol43_the_201st_api_is_refused_until_one_is_removed"]),
    ("scopes of an API", &["protocol43_the_51st_scope_of_an_api_is_refused"]),
    (
        "valid keys of an API",
        &["an_older_key_works_for_the_overlap_and_no_longer", "a_third_key_is_refused_in_words"],
    ),
];

/// The names of all functions of this suite.
fn functions(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("async fn ")?.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_limit_of_the_book_is_tested_from_outside() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = std::fs::read_to_string(root.join("../../docs/book/src/limits.md")).unwrap();
    // The first table; what hostile peers do has one of its own.
    let table = book.lines().skip_while(|line| !line.starts_with("| "));
    let lines: Vec<&str> = table.map_while(|line| line.strip_prefix("| ")).skip(2).collect();
    let mut there = Vec::new();
    functions(&root.join("tests/http"), &mut there);
    assert_eq!(lines.len(), TESTED.len(), "the table and the list are as long");
    for (line, (begins, tests)) in lines.iter().zip(TESTED) {
        assert!(line.starts_with(begins), "the same order: {line}: {begins}");
        assert!(!tests.is_empty(), "{line}");
        for test in tests {
            assert!(there.iter().any(|name| name == test), "{line}: there is no test {test}");
        }
    }
}
