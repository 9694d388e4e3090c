//! `restartPolicy` and `restartPolicyRules` of a container (`validateContainerRestartPolicy` in
//! `pkg/apis/core/validation/validation.go`).

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as wire;

use super::report::{Report, items};
use crate::manifest::FieldPath;
use crate::spec::{RestartPolicy, RestartRule, Role, SetOperator};

/// Values of `restartPolicy`, of pods and of containers.
pub(super) const RESTART_POLICIES: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

/// Kubernetes' limit of rules of a container.
const MAX_RULES: usize = 20;
/// Kubernetes' limit of exit codes of a rule.
const MAX_VALUES: usize = 255;

/// What a container does when it ends.
pub(super) struct Restart {
    pub(super) role: Role,
    pub(super) policy: Option<RestartPolicy>,
    pub(super) rules: Vec<RestartRule>,
}

/// Converts the two fields of the container at `path`, which stands in a list of this `role`.
pub(super) fn convert(
    policy: Option<&str>,
    rules: &[wire::ContainerRestartRule],
    role: Role,
    path: &FieldPath,
    report: &mut Report,
) -> Restart {
    let policy_path = path.field("restartPolicy");
    if policy.is_none() && !rules.is_empty() {
        report.error(&policy_path, "required: must specify restartPolicy when restart rules are used");
    }
    let policy = policy.and_then(|text| report.choice(&policy_path, text, &RESTART_POLICIES));
    let role = match (role, policy) {
        (Role::Init, Some(RestartPolicy::Always)) => Role::Sidecar,
        _ => role,
    };
    let path = path.field("restartPolicyRules");
    if rules.len() > MAX_RULES {
        report.error(&path, format_args!("too many: {}, must have at most {MAX_RULES} items", rules.len()));
        return Restart { role, policy, rules: Vec::new() };
    }
    let rules = rules.iter().enumerate();
    let rules = rules.filter_map(|(index, rule)| convert_rule(rule, &path.index(index), report)).collect();
    Restart { role, policy, rules }
}

fn convert_rule(
    rule: &wire::ContainerRestartRule,
    path: &FieldPath,
    report: &mut Report,
) -> Option<RestartRule> {
    let wire::ContainerRestartRule { action, exit_codes } = rule;
    let action_path = path.field("action");
    match action.as_str() {
        "RestartAllContainers" => {
            report.unsupported(true, &action_path, "a rule restarts its own container only; use Restart");
        }
        action => {
            report.choice(&action_path, action, &[("Restart", ())]);
        }
    }
    let path = path.field("exitCodes");
    let Some(wire::ContainerRestartRuleOnExitCodes { operator, values }) = exit_codes else {
        report.error(&path, "required: must be specified");
        return None;
    };
    let operators = [("In", SetOperator::In), ("NotIn", SetOperator::NotIn)];
    let operator = report.choice(&path.field("operator"), operator, &operators);
    let values = items(values);
    let path = path.field("values");
    if values.len() > MAX_VALUES {
        report.error(&path, format_args!("too many: {}, must have at most {MAX_VALUES} items", values.len()));
        return None;
    }
    // Kubernetes takes these; they are hardly meant.
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        if u8::try_from(*value).is_err() {
            report.warn(&path.index(index), format_args!("no exit code is {value}: they are 0 to 255"));
        } else if !seen.insert(*value) {
            report.warn(&path.index(index), format_args!("no effect: {value} is there already"));
        }
    }
    if values.is_empty() && operator == Some(SetOperator::In) {
        report.warn(&path, "no exit code is in an empty list; the rule never applies");
    }
    Some(RestartRule { operator: operator?, values: values.to_vec() })
}
