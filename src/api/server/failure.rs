//! Why a request cannot be answered, and the answer that says so.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use super::json;
use super::patch::BODY_BYTES;
use crate::api::objects::ObjectKind;
use crate::api::patch::Cause;

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such pod, or no such path.
    #[error("{0}")]
    NotFound(String),
    /// Not what this path is for.
    #[error("{method} is not possible here; use {allow}")]
    Method {
        /// What was wanted.
        method: String,
        /// What is possible.
        allow: &'static str,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The body is of a kind that this path does not take.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The body is longer than a patch may be.
    #[error("the request's body is longer than {} KiB", BODY_BYTES >> 10)]
    TooLarge,
    /// The object would not be valid.
    #[error("{kind} {name:?} is invalid: {}", listed(.causes))]
    Invalid {
        /// `kind`.
        kind: &'static str,
        /// `metadata.name`.
        name: String,
        /// What is wrong with it.
        causes: Vec<Cause>,
    },
    /// There is one of that name already.
    #[error("{0}")]
    AlreadyExists(String),
    /// It has become another since the client looked at it.
    #[error("{0}")]
    Conflict(String),
    /// The pod ends, or has too much to answer already.
    #[error("{0}")]
    Unavailable(String),
    /// The pod does not answer.
    #[error("the pod process does not answer in time")]
    Timeout,
}

impl Failure {
    /// The pod would not be valid.
    pub fn invalid_pod(name: &str, causes: Vec<Cause>) -> Self {
        Self::Invalid { kind: "Pod", name: name.to_owned(), causes }
    }

    /// There is no such ConfigMap or Secret.
    pub fn no_object(kind: ObjectKind, name: &str) -> Self {
        Self::NotFound(format!("{} {name:?} not found", kind.plural()))
    }

    /// The HTTP status, and the reason as `k8s.io/apimachinery/pkg/apis/meta/v1` names it.
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            Self::AlreadyExists(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
        }
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (code, reason) = self.code();
        let status = Status {
            status: Some("Failure".to_owned()),
            message: Some(self.to_string()),
            reason: Some(reason.to_owned()),
            code: Some(code.as_u16().into()),
            details: self.details(),
            ..Status::default()
        };
        let mut response = json(&status);
        *response.status_mut() = code;
        if let Self::Method { allow, .. } = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }

    /// For programs: the fields that are wrong.
    fn details(&self) -> Option<StatusDetails> {
        let Self::Invalid { kind, name, causes } = self else { return None };
        let causes = causes.iter().map(|cause| StatusCause {
            reason: Some(cause.reason.to_owned()),
            field: Some(cause.field.clone()),
            message: Some(cause.message.clone()),
        });
        let (name, kind) = (Some(name.clone()), Some((*kind).to_owned()));
        Some(StatusDetails { name, kind, causes: Some(causes.collect()), ..StatusDetails::default() })
    }
}

/// `field: what is wrong`, as the API server lists them.
fn listed(causes: &[Cause]) -> String {
    let one = |cause: &Cause| format!("{}: {}", cause.field, cause.message);
    match causes {
        [cause] => one(cause),
        _ => format!("[{}]", causes.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}
