//! For load balancers and supervisors: is the process there, can it work.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};

use crate::{api::problem::Problem, app::App};

/// `GET /health/live`: the process answers.
pub async fn live() -> StatusCode {
    StatusCode::OK
}

/// `GET /health/ready`: the database answers too.
///
/// # Errors
/// 503 when it does not.
pub async fn ready(State(app): State<Arc<App>>) -> Result<StatusCode, Problem> {
    app.ready().await?;
    Ok(StatusCode::OK)
}
