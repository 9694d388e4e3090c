//! `env` and `envFrom` of a container.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};

use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::environment::{Environment, Value, Variable};
use crate::spec::name;

/// Converts `env` and `envFrom`.
pub(super) fn convert(
    env: &[EnvVar],
    from: &[EnvFromSource],
    path: &FieldPath,
    report: &mut Report,
) -> Environment {
    report.unsupported(!from.is_empty(), &path.field("envFrom"), "give the variables under env");
    let path = path.field("env");
    let mut environment = Environment::default();
    for (index, variable) in env.iter().enumerate() {
        let path = path.index(index);
        let EnvVar { name, value, value_from } = variable;
        let text = value.as_deref().unwrap_or_default();
        report.check(&path.field("name"), name::env(name));
        if value_from.is_some() {
            let from = path.field("valueFrom");
            if text.is_empty() {
                report.unsupported(true, &from, "give the value itself under value");
            } else {
                report.error(&from, "may not be specified when `value` is not empty");
            }
            continue;
        }
        if text.contains('\0') {
            report.error(&path.field("value"), "must not contain a NUL byte");
        }
        if environment.variables.iter().any(|earlier| earlier.name == *name) {
            report.warn(&path, format_args!("{name:?} is set twice; this value replaces the earlier one"));
        }
        environment.variables.push(Variable { name: name.clone(), value: Value::Text(text.to_owned()) });
    }
    environment
}
