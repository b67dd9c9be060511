//! The stylesheet, the script and the icon, in the binary; and the one way a cacheable body is
//! answered.

use std::{
    io::Write,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use flate2::{Compression, write::GzEncoder};

/// Revalidated at each use: a new release shows at once, and an unchanged file costs a 304.
const CACHE: HeaderValue = HeaderValue::from_static("public, no-cache");

/// Room for what an answer of many has, those headers included that every answer has.
pub(crate) const EXPECTED_HEADERS: usize = 12;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file: its path, its type, what is in it.
type File = (&'static str, &'static str, &'static [u8]);

const FILES: [File; 4] = [
    ("/assets/console.css", "text/css; charset=utf-8", include_bytes!("../assets/console.css")),
    ("/assets/console.js", SCRIPT, include_bytes!("../assets/console.js")),
    ("/assets/passkeys.js", SCRIPT, include_bytes!("../assets/passkeys.js")),
    ("/assets/favicon.svg", "image/svg+xml", include_bytes!("../assets/favicon.svg")),
];

/// Where the files are.
pub const PATHS: [&str; 4] = [FILES[0].0, FILES[1].0, FILES[2].0, FILES[3].0];

/// The files with their tags, compressed when the first one is asked for.
static DOCUMENTS: LazyLock<[Document; 4]> =
    LazyLock::new(|| FILES.map(|(_, _, body)| Document::new(Bytes::from_static(body))));

/// `GET` of one of [`PATHS`].
pub fn get(path: &str, headers: &HeaderMap) -> Response {
    match FILES.iter().zip(&*DOCUMENTS).find(|((known, ..), _)| *known == path) {
        Some(((_, content_type, _), document)) => document.answer(headers, content_type, CACHE),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A body that is answered more than once, with its tags and in compressed form.
#[derive(Debug)]
pub struct Document {
    plain: (Bytes, ETag),
    /// With gzip, where that is shorter; the tag is another one (RFC 9110 §8.8.3.3).
    packed: Option<(Bytes, ETag)>,
}

/// A tag as it stands in the header (RFC 9110 §8.8.3).
#[derive(Debug, Clone)]
pub struct ETag(HeaderValue);

impl ETag {
    /// What stands for no tag at all: nobody has it.
    const NONE: HeaderValue = HeaderValue::from_static("\"\"");

    /// Of a tag without its quotes: letters, digits, `-`, `_` and `.`. Anything else makes one that nobody
    /// has, so that the body is always sent.
    #[must_use]
    pub fn of(tag: &str) -> Self {
        Self(HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(Self::NONE))
    }

    /// Whether the caller has it already (RFC 9110 §13.1.2).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let is_this = |tag: &str| self.0 == *tag.trim().trim_start_matches("W/");
        self.0 != Self::NONE && known.flat_map(|v| v.split(',')).any(is_this)
    }
}

impl Document {
    /// Makes the tag and the compressed form.
    #[must_use]
    pub fn new(plain: Bytes) -> Self {
        let tag = tag(&plain);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail; if it did, there would be no compressed form.
        let packed = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok();
        let packed = packed.filter(|packed| packed.len() < plain.len());
        let packed = packed.map(|packed| (Bytes::from(packed), ETag::of(&format!("{tag}.gz"))));
        Self { plain: (plain, ETag::of(&tag)), packed }
    }

    /// The body, compressed for who takes that; 304 without it when the caller has it already.
    #[must_use]
    pub fn answer(&self, request: &HeaderMap, content_type: &'static str, cache: HeaderValue) -> Response {
        let packed = self.packed.as_ref().filter(|_| takes_gzip(request));
        let (body, etag) = packed.unwrap_or(&self.plain);
        let mut response = cacheable(request, content_type, cache, body.clone(), etag.clone());
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if packed.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Whether gzip is named among what is accepted, and not with the weight 0 (RFC 9110 §12.5.3).
fn takes_gzip(request: &HeaderMap) -> bool {
    let lines = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
        is_gzip && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// A document that follows from something which rarely changes, made anew when that is another.
#[derive(Debug)]
pub struct Kept<K>(Mutex<Option<(K, Arc<Document>)>>);

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq> Kept<K> {
    /// The document that follows from `from`.
    pub fn of(&self, from: K, make: impl FnOnce() -> String) -> Arc<Document> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, document) = match kept.take_if(|(known, _)| *known == from) {
            Some(same) => kept.insert(same),
            None => kept.insert((from, Arc::new(Document::new(make().into())))),
        };
        Arc::clone(document)
    }
}

/// The documents of discovery, as they were answered last.
#[derive(Debug, Default)]
pub struct Documents {
    /// The key set: of its version, and which of its keys are published.
    pub key_set: Kept<(i64, Vec<bool>)>,
    /// The metadata of the server: of the algorithms in use.
    pub server: Kept<Vec<&'static str>>,
    /// The metadata of the product's own API.
    pub resource: Kept<()>,
}

/// A short digest of what is served.
#[must_use]
pub fn tag(body: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    BASE64URL.encode(&hash.as_ref()[..12])
}

/// A body with its ETag; 304 without it when the caller has it already (RFC 9110 §13.1.2). Its bytes may
/// differ while it says the same: the tag is of what it says.
#[must_use]
pub fn cacheable(
    request: &HeaderMap,
    content_type: &'static str,
    cache: HeaderValue,
    body: Bytes,
    etag: ETag,
) -> Response {
    let known = etag.is_known(request);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(body) });
    let headers = response.headers_mut();
    headers.reserve(EXPECTED_HEADERS);
    headers.insert(header::ETAG, etag.0);
    headers.insert(header::CACHE_CONTROL, cache);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(line: &'static str) -> HeaderMap {
        [(header::ACCEPT_ENCODING, HeaderValue::from_static(line))].into_iter().collect()
    }

    #[test]
    fn who_names_gzip_gets_it() {
        for yes in ["gzip", "br, GZIP;q=0.5", "deflate, gzip"] {
            assert!(takes_gzip(&accepting(yes)), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*", "x-gzip"] {
            assert!(!takes_gzip(&accepting(no)), "{no}");
        }
    }

    #[test]
    fn a_document_is_answered_in_both_forms_each_with_a_tag_of_its_own() {
        let document = Document::new(Bytes::from("the same again, ".repeat(20)));
        let tag = |response: &Response| response.headers()[header::ETAG].clone();
        let (plain, packed) = (
            document.answer(&HeaderMap::new(), "text/plain", CACHE),
            document.answer(&accepting("gzip"), "text/plain", CACHE),
        );
        assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None);
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert_ne!(tag(&plain), tag(&packed));
        let mut again = accepting("gzip");
        again.insert(header::IF_NONE_MATCH, tag(&packed));
        assert_eq!(document.answer(&again, "text/plain", CACHE).status(), StatusCode::NOT_MODIFIED);
        again.insert(header::IF_NONE_MATCH, tag(&plain));
        assert_eq!(document.answer(&again, "text/plain", CACHE).status(), StatusCode::OK);
    }

    #[test]
    fn a_kept_document_is_made_anew_when_what_it_follows_from_changes() {
        let kept = Kept::default();
        let first = kept.of(1, || "one".to_owned());
        assert!(Arc::ptr_eq(&first, &kept.of(1, || "not made".to_owned())));
        assert_eq!(kept.of(2, || "two".to_owned()).plain.0, "two");
    }
}
