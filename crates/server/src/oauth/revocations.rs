//! `GET /oauth/revocations`: the feed of what changes, as server-sent events, for an API with a key of
//! its own (C-11). The book says what is in it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use portcullis_domain::audit::Origin;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::{
    access::Peer,
    app::{App, introspection::Asker},
    oauth::{
        client,
        error::{OAuthError, never_stored},
        form::refuse_in_url,
    },
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells a proxy in front not to hold events back.
const NOT_BUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Begins to tell.
///
/// # Errors
/// 401 for whoever is not an API with a key, 503 when there are too many or the truth cannot be read.
pub async fn get(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    refuse_in_url(&uri)?;
    let key = match app.authenticate_asker(client::basic(&app, &headers, origin)?).await? {
        Asker::Api(key) => key,
        // It would learn of the credentials of others.
        Asker::Client(_) => {
            return Err(OAuthError::invalid_client("Only APIs follow revocations. Use a key of the API."));
        }
    };
    // One that is not text is not one that can be resumed from.
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let frames = app.follow(key, last_id, peer.uses.hold()).await?;
    let mut response = Body::from_stream(ReceiverStream::new(frames).map(Ok::<_, Infallible>)).into_response();
    never_stored(&mut response);
    let response_headers = response.headers_mut();
    response_headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    response_headers.extend([NOT_BUFFERED]);
    Ok(response)
}
