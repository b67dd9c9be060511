//! Page cursors: opaque, and a forged one is refused (protocol 44).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::accounts::Invalid;
use portcullis_store::Purpose;

use crate::app::App;

const MAC_BYTES: usize = 12;

/// Makes the cursor of a place in a list. `list` names the list, so that a cursor of one does not
/// open another.
#[must_use]
pub fn seal(app: &App, list: &str, place: &[u8]) -> String {
    let mut bytes = place.to_vec();
    bytes.extend_from_slice(&mac(app, list, place));
    BASE64URL.encode(bytes)
}

/// The place a cursor stands for.
///
/// # Errors
/// When this server did not make it for this list.
pub fn open<const N: usize>(app: &App, list: &str, cursor: &str) -> Result<[u8; N], Invalid> {
    let refused = || Invalid {
        field: "cursor",
        message: "This page link is not valid. Start again from the first page.".to_owned(),
    };
    let bytes = BASE64URL.decode(cursor).map_err(|_| refused())?;
    let (place, given) = bytes.split_first_chunk::<N>().ok_or_else(refused)?;
    aws_lc_rs::constant_time::verify_slices_are_equal(given, &mac(app, list, place)).map_err(|_| refused())?;
    Ok(*place)
}

fn mac(app: &App, list: &str, place: &[u8]) -> [u8; MAC_BYTES] {
    let mut message = list.as_bytes().to_vec();
    message.push(0);
    message.extend_from_slice(place);
    let full = app.store.digest_key(Purpose::Cursor).mac(&message);
    let mut short = [0; MAC_BYTES];
    short.copy_from_slice(&full[..MAC_BYTES]);
    short
}
