//! `POST` and `PATCH …/pods/{name}/ephemeralcontainers`: one more ephemeral container.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use serde::de::DeserializeOwned;

use super::query::Parameters;
use super::{Failure, Pods, find, json};

/// The longest body, bytes: what Kubernetes takes for a container is well below.
const BODY_BYTES: usize = 1 << 20;

/// Adds the container of the body, or the one that a patch of the pod has more than the pod.
pub(super) async fn add<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    namespace: &str,
    name: &str,
) -> Result<Response<Full<Bytes>>, Failure> {
    Parameters::of(&request, &[])?;
    let is_patch = request.method() == Method::PATCH;
    let body = Limited::new(request.into_body(), BODY_BYTES).collect().await;
    let body =
        body.map_err(|error| Failure::BadRequest(format!("cannot read the body: {error}")))?.to_bytes();
    let found = find(pods, namespace, name).await?;
    let container = if is_patch { added(&found, parse(&body)?)? } else { parse(&body)? };
    let uid = found.metadata.uid.unwrap_or_default();
    Ok(json(&pods.add_ephemeral(&uid, container).await?))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::BadRequest(format!("cannot read the body: {error}")))
}

/// The one container that a patch of the pod adds: its list may have those that are there already.
fn added(pod: &Pod, patch: Pod) -> Result<EphemeralContainer, Failure> {
    let list =
        |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone()).unwrap_or_default();
    let there = list(pod);
    let mut new = list(&patch);
    new.retain(|new| !there.iter().any(|old| old.name == new.name));
    match (new.pop(), new.len()) {
        (Some(container), 0) => Ok(container),
        (None, _) => Err(Failure::BadRequest("the patch adds no ephemeral container".to_owned())),
        _ => Err(Failure::BadRequest("add one ephemeral container at a time".to_owned())),
    }
}
