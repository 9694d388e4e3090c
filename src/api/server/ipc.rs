//! `DELETE …/ipc/{kind}/{object}`: the name of something that a pod's containers share is removed.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::{Failure, Pods, json, query, uid};
use crate::api::types::IpcKind;

/// Answers with a Status. `object`: the name as it stands in the path, encoded.
pub(super) async fn remove<P: Pods>(
    pods: &P,
    namespace: &str,
    name: &str,
    kind: &str,
    object: &str,
) -> Result<Response<Full<Bytes>>, Failure> {
    let known = IpcKind::ALL.into_iter().find(|known| known.as_str() == kind);
    let kind = known.ok_or_else(|| Failure::NotFound(format!("the pod shares no {kind:?}")))?;
    // In a path a plus is a plus (RFC 3986, section 3.3).
    let object = query::decode(&object.replace('+', "%2B"))?;
    pods.remove_ipc(&uid(pods, namespace, name).await?, kind, object).await?;
    Ok(json(&Status { status: Some("Success".to_owned()), ..Status::default() }))
}
