//! What changes a pod: `PATCH`, `PATCH …/status`, `PATCH …/resize` and `DELETE`.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::Value;

use super::query::Parameters;
use super::{Failure, Pods, find, json, uid};
use crate::api::patch::{self, Cause, PatchType};

/// The longest body, bytes, as the API server takes it (`MaxRequestBodyBytes` in
/// `k8s.io/apiserver/pkg/server/config.go`): a Secret of 1 MiB fits. MAX_CONNECTIONS of them are held at the same time.
pub(super) const BODY_BYTES: usize = 3 << 20;

/// The subresource that is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Status,
    Resize,
}

impl Part {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "status" => Some(Self::Status),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }
}

/// Patches a pod, and answers with it.
pub(super) async fn patch<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    namespace: &str,
    name: &str,
    part: Part,
) -> Result<Response<Full<Bytes>>, Failure> {
    if dry_run(&request)? {
        return Err(Failure::BadRequest("dryRun: this cannot be tried without being done".to_owned()));
    }
    let (kind, patch) = patch_of(request).await?;
    let mut pod = find(pods, namespace, name).await?;
    let patched = kind.apply(value(&pod)?, patch).map_err(Failure::BadRequest)?;
    let invalid = |causes: Vec<Cause>| Failure::invalid_pod(name, causes);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    match part {
        Part::Status => {
            let set = patch::conditions(&pod, &patched).map_err(invalid)?;
            if !set.is_empty() {
                pods.set_conditions(&uid, set.clone()).await?;
            }
            let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions.retain(|old| !set.iter().any(|new| new.type_ == old.type_));
            conditions.extend(set);
            Ok(json(&pod))
        }
        Part::Resize => {
            let wanted = patch::resized(&pod, &patched).map_err(invalid)?;
            Ok(json(&if wanted == pod { pod } else { pods.resize(&uid, wanted).await? }))
        }
    }
}

/// Changes a pod's labels and annotations, and answers with it.
pub(super) async fn update<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    namespace: &str,
    name: &str,
) -> Result<Response<Full<Bytes>>, Failure> {
    let is_dry_run = dry_run(&request)?;
    let (kind, patch) = patch_of(request).await?;
    let uid = uid(pods, namespace, name).await?;
    Ok(json(&pods.update(&uid, kind, patch, is_dry_run).await?))
}

/// What kubectl sends with a patch. But for `dryRun` it makes no difference here.
const PATCH_PARAMETERS: &[&str] = &["fieldManager", "fieldValidation", "force", "dryRun"];

/// Whether a patch is only tried.
pub(super) fn dry_run(request: &Request<Incoming>) -> Result<bool, Failure> {
    Parameters::of(request, PATCH_PARAMETERS)?.is_dry_run()
}

/// The patch in a request.
pub(super) async fn patch_of(request: Request<Incoming>) -> Result<(PatchType, Value), Failure> {
    Parameters::of(&request, PATCH_PARAMETERS)?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = PatchType::of(content_type.unwrap_or_default()).ok_or_else(|| {
        let [strategic, merge, apply] =
            [PatchType::Strategic, PatchType::Merge, PatchType::Apply].map(PatchType::media_type);
        Failure::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format - accepted media types include: {strategic}, {merge}, \
             {apply}"
        ))
    })?;
    let body = body(request).await?;
    let patch = match kind {
        PatchType::Apply => serde_yaml::from_slice(&body)
            .map_err(|error| Failure::BadRequest(format!("the body is neither YAML nor JSON: {error}")))?,
        PatchType::Strategic | PatchType::Merge => parse(&body)?,
    };
    Ok((kind, patch))
}

/// The body of a request as JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::BadRequest(format!("the body is not JSON: {error}")))
}

/// Ends a pod, and answers with it.
pub(super) async fn delete<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    namespace: &str,
    name: &str,
) -> Result<Response<Full<Bytes>>, Failure> {
    let parameters = Parameters::of(&request, &["gracePeriodSeconds", "propagationPolicy"])?;
    let named = parameters.get("gracePeriodSeconds").map(str::to_owned);
    let body = body(request).await?;
    let seconds = match named {
        Some(text) => Some(text.parse::<i64>().map_err(|_| {
            Failure::BadRequest(format!("gracePeriodSeconds: {text:?} is no number of seconds"))
        })?),
        None if body.is_empty() => None,
        None => {
            let options: DeleteOptions = serde_json::from_slice(&body)
                .map_err(|error| Failure::BadRequest(format!("the body is no DeleteOptions: {error}")))?;
            options.grace_period_seconds
        }
    };
    // As `CheckGracefulDelete` in `pkg/registry/core/pod/strategy.go`: less than none is one second.
    let grace =
        seconds.map(|seconds| if seconds < 0 { 1 } else { u32::try_from(seconds).unwrap_or(u32::MAX) });
    let pod = find(pods, namespace, name).await?;
    Ok(json(&pods.delete(pod.metadata.uid.as_deref().unwrap_or_default(), grace).await?))
}

pub(super) async fn body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), BODY_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Failure::TooLarge,
        None => Failure::BadRequest(format!("the body breaks off: {error}")),
    })
}

fn value(pod: &Pod) -> Result<Value, Failure> {
    serde_json::to_value(pod).map_err(|error| Failure::BadRequest(error.to_string()))
}
