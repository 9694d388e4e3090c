//! `env` of a container, and `$(VAR)` in its `command` and `args`.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::EnvVar;

use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::expand::expand;
use crate::spec::name;

/// The longest single variable, argument or command, bytes: Linux' own limit (`MAX_ARG_STRLEN`, execve(2)).
const MAX_STRING_BYTES: usize = 128 << 10;

/// The variables of a container, in the manifest's order.
pub(super) struct Environment<'b> {
    variables: Vec<(String, String)>,
    position: HashMap<String, usize>,
    budget: &'b mut usize,
}

/// Converts `env`; each value sees the variables before it. `budget`: bytes that may still come out.
pub(super) fn convert<'b>(
    env: &[EnvVar],
    path: &FieldPath,
    budget: &'b mut usize,
    report: &mut Report,
) -> Environment<'b> {
    let mut environment = Environment { variables: Vec::new(), position: HashMap::new(), budget };
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
        let value = environment.expand(text, &path.field("value"), report);
        environment.set(name, value, &path, report);
    }
    environment
}

impl Environment<'_> {
    fn set(&mut self, name: &str, value: String, path: &FieldPath, report: &mut Report) {
        match self.position.get(name) {
            Some(&earlier) => {
                report.warn(path, format_args!("{name:?} is set twice; this value replaces the earlier one"));
                self.variables[earlier].1 = value;
            }
            None => {
                self.position.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
    }

    fn expand(&mut self, text: &str, path: &FieldPath, report: &mut Report) -> String {
        if text.contains('\0') {
            report.error(path, "must not contain a NUL byte");
        }
        let lookup = |name: &str| self.position.get(name).map(|at| self.variables[*at].1.as_str());
        match expand(text, lookup, MAX_STRING_BYTES.min(*self.budget)) {
            Ok(expanded) => {
                *self.budget -= expanded.len();
                expanded
            }
            Err(error) => {
                report.error(
                    path,
                    format_args!(
                        "{error}: at most {} KiB each, and {} MiB in a pod",
                        MAX_STRING_BYTES >> 10,
                        super::MAX_EXPANSION_BYTES >> 20
                    ),
                );
                String::new()
            }
        }
    }

    /// Expands every item of `command` or `args`.
    pub(super) fn expand_all(
        &mut self,
        list: &[String],
        path: &FieldPath,
        report: &mut Report,
    ) -> Vec<String> {
        list.iter().enumerate().map(|(index, text)| self.expand(text, &path.index(index), report)).collect()
    }

    pub(super) fn into_variables(self) -> Vec<(String, String)> {
        self.variables
    }
}
