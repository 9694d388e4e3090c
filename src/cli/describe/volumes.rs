//! Volumes and tolerations.

use k8s_openapi::api::core::v1::{Toleration, Volume};

use super::page::Page;

/// `expirationSeconds` of a token when absent (`SetDefaults_ServiceAccountTokenProjection` in
/// `pkg/apis/core/v1/defaults.go`).
const TOKEN_SECONDS: i64 = 3600;

/// The section `Volumes`.
pub fn describe(page: &mut Page, volumes: &[Volume]) {
    if volumes.is_empty() {
        return page.line(0, "Volumes:\t<none>");
    }
    page.line(0, "Volumes:");
    for volume in volumes {
        page.line(1, format!("{}:", volume.name));
        source(page, volume);
    }
}

/// In kubectl's words (`describeVolumes` in `pkg/describe/describe.go`).
const EPHEMERAL: &str =
    "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)";

fn source(page: &mut Page, volume: &Volume) {
    let field = |page: &mut Page, label: &str, value: &str| page.line(2, format!("{label}:\t{value}"));
    let optional = |optional: Option<bool>| if optional == Some(true) { "true" } else { "false" };
    if let Some(host) = &volume.host_path {
        field(page, "Type", "HostPath (bare host directory volume)");
        field(page, "Path", &host.path);
        field(page, "HostPathType", host.type_.as_deref().unwrap_or("<none>"));
    } else if let Some(empty) = &volume.empty_dir {
        field(page, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
        field(page, "Medium", empty.medium.as_deref().unwrap_or_default());
        let limit = empty.size_limit.as_ref().map(|limit| limit.0.as_str()).filter(|limit| *limit != "0");
        field(page, "SizeLimit", limit.unwrap_or("<unset>"));
    } else if let Some(map) = &volume.config_map {
        field(page, "Type", "ConfigMap (a volume populated by a ConfigMap)");
        field(page, "Name", &map.name);
        field(page, "Optional", optional(map.optional));
    } else if let Some(secret) = &volume.secret {
        field(page, "Type", "Secret (a volume populated by a Secret)");
        field(page, "SecretName", secret.secret_name.as_deref().unwrap_or_default());
        field(page, "Optional", optional(secret.optional));
    } else if let Some(claim) = &volume.persistent_volume_claim {
        let what = "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)";
        field(page, "Type", what);
        field(page, "ClaimName", &claim.claim_name);
        field(page, "ReadOnly", optional(claim.read_only));
    } else if let Some(ephemeral) = &volume.ephemeral {
        field(page, "Type", EPHEMERAL);
        let spec = ephemeral.volume_claim_template.as_ref().map(|template| template.spec.clone());
        let spec = spec.unwrap_or_default();
        field(page, "StorageClass", spec.storage_class_name.as_deref().unwrap_or_default());
        field(page, "Volume", spec.volume_name.as_deref().unwrap_or_default());
        let requests = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
        field(
            page,
            "Requests",
            requests.get("storage").map(|storage| storage.0.as_str()).unwrap_or_default(),
        );
        let modes = spec.access_modes.unwrap_or_default();
        field(page, "Access Modes", &modes.join(", "));
    } else if let Some(downward) = &volume.downward_api {
        field(page, "Type", "DownwardAPI (a volume populated by information about the pod)");
        page.line(2, "Items:");
        for file in downward.items.iter().flatten() {
            let of_field = file.field_ref.as_ref().map(|field| &field.field_path);
            let what = of_field.or(file.resource_field_ref.as_ref().map(|field| &field.resource));
            page.line(3, format!("{} -> {}", what.map_or("", String::as_str), file.path));
        }
    } else if let Some(projected) = &volume.projected {
        let what = "Projected (a volume that contains injected data from multiple sources)";
        field(page, "Type", what);
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                field(page, "SecretName", &secret.name);
                field(page, "Optional", optional(secret.optional));
            } else if source.downward_api.is_some() {
                field(page, "DownwardAPI", "true");
            } else if let Some(map) = &source.config_map {
                field(page, "ConfigMapName", &map.name);
                field(page, "Optional", optional(map.optional));
            } else if let Some(token) = &source.service_account_token {
                let seconds = token.expiration_seconds.unwrap_or(TOKEN_SECONDS).to_string();
                field(page, "TokenExpirationSeconds", &seconds);
            }
        }
    } else {
        page.line(1, "<unknown>");
    }
}

/// `Tolerations`, which mean nothing here and are shown as they are.
pub fn tolerations(page: &mut Page, tolerations: &[Toleration]) {
    let mut sorted: Vec<_> = tolerations.iter().collect();
    sorted.sort_by_key(|toleration| toleration.key.clone());
    let lines: Vec<_> = sorted.into_iter().map(toleration).collect();
    page.list("Tolerations", &lines);
}

fn toleration(toleration: &Toleration) -> String {
    let Toleration { effect, key, operator, toleration_seconds, value } = toleration;
    let mut text = key.clone().unwrap_or_default();
    let value = value.as_deref().unwrap_or_default();
    if !value.is_empty() {
        text += &format!("={value}");
    }
    if let Some(effect) = effect.as_deref().filter(|effect| !effect.is_empty()) {
        text += &format!(":{effect}");
    }
    if operator.as_deref() == Some("Exists") && value.is_empty() {
        text += if text.is_empty() { "op=Exists" } else { " op=Exists" };
    }
    if let Some(seconds) = toleration_seconds {
        text += &format!(" for {seconds}s");
    }
    text
}
