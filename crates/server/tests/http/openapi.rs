//! The API's description is the API's.

#[test]
fn the_document_in_the_repository_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == portcullis::api::openapi::json(),
        "docs/openapi.json is not what the code says. Make it again at the root of the repository:\n\
         cargo run -- openapi > docs/openapi.json"
    );
}
