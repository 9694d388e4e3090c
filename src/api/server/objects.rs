//! `…/configmaps`, `…/secrets`: what the pods are configured by.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use serde_json::{Value, json};

use super::patch::{body, dry_run, parse, patch_of};
use super::query::Parameters;
use super::{Failure, Pods, SELECTION, json as answer};
use crate::api::objects::{Change, Changed, ObjectKind};
use crate::api::selection::{FIELDS, SECRET_FIELDS};

/// Lists the objects, or makes one.
pub(super) async fn list<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    kind: ObjectKind,
    namespace: Option<&str>,
) -> Result<Response<Full<Bytes>>, Failure> {
    if let (&Method::POST, Some(namespace)) = (request.method(), namespace) {
        Parameters::of(&request, &["fieldManager", "fieldValidation"])?;
        let object: Value = parse(&body(request).await?)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        return change(pods, kind, namespace, &name, Change::Create(object), false).await;
    }
    let fields = if kind == ObjectKind::Secret { SECRET_FIELDS } else { FIELDS };
    let selection = Parameters::of(&request, SELECTION)?.selection(fields)?;
    let mut items = pods.objects(kind, namespace).await?;
    selection.retain(&mut items);
    let list = format!("{}List", kind.kind());
    Ok(answer(&json!({"apiVersion": "v1", "kind": list, "metadata": {}, "items": items})))
}

/// Answers with an object, or changes it.
pub(super) async fn one<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Response<Full<Bytes>>, Failure> {
    let mut is_dry_run = false;
    let wanted = match *request.method() {
        Method::PUT => {
            Parameters::of(&request, &["fieldManager", "fieldValidation"])?;
            Change::Replace(parse(&body(request).await?)?)
        }
        Method::PATCH => {
            is_dry_run = dry_run(&request)?;
            let (kind, patch) = patch_of(request).await?;
            Change::Patch(kind, patch)
        }
        Method::DELETE => {
            Parameters::of(&request, &["gracePeriodSeconds", "propagationPolicy"])?;
            Change::Delete
        }
        _ => {
            Parameters::of(&request, &[])?;
            let found = pods.object(kind, namespace, name).await?;
            return found.map(|object| answer(&object)).ok_or_else(|| Failure::no_object(kind, name));
        }
    };
    change(pods, kind, namespace, name, wanted, is_dry_run).await
}

async fn change<P: Pods>(
    pods: &P,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    change: Change,
    is_dry_run: bool,
) -> Result<Response<Full<Bytes>>, Failure> {
    let is_deletion = change == Change::Delete;
    let Changed { object, is_new } = pods.change_object(kind, namespace, name, change, is_dry_run).await?;
    if is_deletion {
        let details = StatusDetails {
            name: Some(name.to_owned()),
            kind: Some(kind.plural().to_owned()),
            uid: object["metadata"]["uid"].as_str().map(str::to_owned),
            ..StatusDetails::default()
        };
        let status = Some("Success".to_owned());
        return Ok(answer(&Status { status, details: Some(details), ..Status::default() }));
    }
    let mut response = answer(&object);
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}
