//! The parts of a token request that are neither cryptography nor waiting, each on input of its usual
//! size. `hot_path` takes their time, `count` counts their instructions.

use std::hint::black_box;

use jiff::Timestamp;
use portcullis::{
    app::keys::signing_input,
    oauth::{client::parse_basic, form::Form},
};
use portcullis_domain::{
    accounts::{Role, Standing as OwnerStanding, Status, UserId},
    apis::{Api, OWN, Settings, own_scopes},
    credentials::{CREDENTIAL_LASTS, ClientId, Credential},
    keys::Algorithm,
    secret::DigestKey,
    tokens::{Claims, StatusClaim, StatusPlace, ends_at},
};
use uuid::Uuid;

/// What the parts work on.
pub(crate) struct Input {
    form: &'static [u8],
    basic: String,
    credential: Credential,
    owner: OwnerStanding,
    api: Api,
    claims: Claims,
    now: Timestamp,
}

/// A part, by its name.
pub(crate) type Part = (&'static str, fn(&Input));

/// All parts.
pub(crate) const PARTS: [Part; 6] = [
    ("form", |input| {
        black_box(Form::parse(black_box(input.form)).is_ok());
    }),
    ("basic", |input| {
        black_box(parse_basic(black_box(&input.basic)).is_some());
    }),
    ("standing", |input| {
        black_box(input.credential.standing(black_box(&input.owner), input.now));
    }),
    ("grant", |input| {
        black_box(input.api.grant(black_box(Some("audit:read users:read"))).is_ok());
    }),
    ("end", |input| {
        black_box(ends_at(black_box(input.now), 86_400, input.credential.expires_at));
    }),
    ("signing_input", |input| {
        let kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        black_box(signing_input("at+jwt", Algorithm::Es256, kid, black_box(&input.claims)).is_ok());
    }),
];

impl Input {
    /// The same every time.
    ///
    /// # Panics
    /// Never: the instant is one that there is.
    #[expect(clippy::unwrap_used, reason = "a constant")]
    pub(crate) fn new() -> Self {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let client_id = ClientId::new([7; 20]);
        let (id, issuer) = (client_id.as_str().to_owned(), "https://auth.acme.example".to_owned());
        let credential = Credential {
            id: Uuid::from_u128(1),
            owner: UserId(Uuid::from_u128(2)),
            client_id,
            digest: DigestKey::new("k", &[0; 32]).digest(b"x"),
            generated_at: now,
            expires_at: now + CREDENTIAL_LASTS,
            retired_at: None,
            revoked: None,
            key: None,
            secret_off_at: None,
            had_key: false,
        };
        let owner = OwnerStanding {
            role: (Role::SuperAdmin, now),
            status: (Status::Active, now),
            mfa_since: None,
            has_password: true,
        };
        let identifier = format!("{issuer}/api/v1");
        let place = StatusPlace { idx: 42, uri: format!("{issuer}/oauth/status") };
        let claims = Claims {
            iss: issuer,
            sub: id.clone(),
            client_id: id,
            aud: identifier.clone(),
            iat: now.as_second(),
            exp: now.as_second() + 86_400,
            jti: Uuid::from_u128(3),
            scope: "users:read audit:read apis:read".to_owned(),
            status: Some(StatusClaim { status_list: place }),
            cnf: None,
        };
        let settings = Settings {
            name: "Portcullis".to_owned(),
            identifier,
            scopes: own_scopes(),
            lifespan_seconds: None,
            requires_dpop: false,
            algorithm: Algorithm::Es256,
        };
        Self {
            form: b"grant_type=client_credentials&scope=users%3Aread+audit%3Aread",
            // pcc_77777777777777777777:pcs_…, as long as a real one.
            basic: "Basic cGNjXzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3OnBjc18wMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMF8xY0xOQmE=".to_owned(),
            credential,
            owner,
            api: Api { id: OWN, settings, made_at: now },
            claims,
            now,
        }
    }
}
