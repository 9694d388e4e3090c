//! `GET …/events?fieldSelector=`: the events of pods, all or some.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::Event;

use super::query::Parameters;
use super::{Failure, Pods, json};
use crate::spec::selector::FieldSelector;

/// Answers with an EventList.
pub(super) async fn list<P: Pods>(
    request: &Request<Incoming>,
    pods: &P,
    namespace: Option<&str>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let parameters = Parameters::of(request, &["fieldSelector", "limit"])?;
    let selector = parameters.get("fieldSelector").unwrap_or_default();
    let selector =
        FieldSelector::parse(selector, |name| field(name).is_some()).map_err(Failure::BadRequest)?;
    let mut items = pods.events().await?;
    items.retain(|event| {
        let in_namespace =
            namespace.is_none_or(|namespace| event.metadata.namespace.as_deref() == Some(namespace));
        in_namespace && selects(&selector, event)
    });
    Ok(json(&k8s_openapi::List { items, metadata: Default::default() }))
}

type Field = fn(&Event) -> Option<&str>;

/// A field of this name (`ToSelectableFields` in `pkg/registry/core/event/strategy.go`).
fn field(name: &str) -> Option<Field> {
    let field: Field = match name {
        "metadata.name" => |event| event.metadata.name.as_deref(),
        "metadata.namespace" => |event| event.metadata.namespace.as_deref(),
        "involvedObject.kind" => |event| event.involved_object.kind.as_deref(),
        "involvedObject.namespace" => |event| event.involved_object.namespace.as_deref(),
        "involvedObject.name" => |event| event.involved_object.name.as_deref(),
        "involvedObject.uid" => |event| event.involved_object.uid.as_deref(),
        "involvedObject.apiVersion" => |event| event.involved_object.api_version.as_deref(),
        "involvedObject.resourceVersion" => |event| event.involved_object.resource_version.as_deref(),
        "involvedObject.fieldPath" => |event| event.involved_object.field_path.as_deref(),
        "reason" => |event| event.reason.as_deref(),
        "reportingComponent" => |event| event.reporting_component.as_deref(),
        "source" => |event| event.source.as_ref()?.component.as_deref(),
        "type" => |event| event.type_.as_deref(),
        _ => return None,
    };
    Some(field)
}

/// Whether an event is wanted.
fn selects(selector: &FieldSelector, event: &Event) -> bool {
    selector.selects(|name| field(name).and_then(|field| field(event)).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event { reason: Some("Killing".to_owned()), ..Event::default() };
        event.involved_object.name = Some("web".to_owned());
        event
    }

    #[test]
    fn fields_select() {
        let parsed = |text| FieldSelector::parse(text, |name| field(name).is_some());
        for (selector, expected) in [
            ("", true),
            ("involvedObject.name=web", true),
            ("involvedObject.name==web,reason!=Pulled", true),
            ("involvedObject.name=web,reason=Pulled", false),
            ("involvedObject.uid=", true),
            ("involvedObject.name!=web", false),
        ] {
            let parsed = parsed(selector).unwrap();
            assert_eq!(selects(&parsed, &event()), expected, "{selector}");
        }
        for wrong in ["web", "spec.nodeName=x", "=x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
