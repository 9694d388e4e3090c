//! `peapod get configmaps`, `peapod get secrets`: what the pods have, as kubectl lists it.
//!
//! The columns are those of `printConfigMap` and `printSecret` in `pkg/printers/internalversion/printers.go`.

use std::cell::Cell;

use serde_json::{Value, json};

use super::super::age::since;
use super::super::describe::object;
use super::super::get::{DEFAULT_NAMESPACE, LabelColumns, nothing_found, print_table};
use super::super::{Failure, all_well, output, tabs, target};
use super::{ObjectKind, missing, of_pod, pods};
use crate::api::selection::Selection;
use crate::paths::Paths;

/// How they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Table { is_wide: bool },
    Json,
    Yaml,
    Name,
}

/// What to print.
pub struct Wanted<'a> {
    pub namespace: Option<&'a str>,
    pub all_namespaces: bool,
    pub form: Form,
    pub with_headings: bool,
    /// `KIND/NAME` in the table.
    pub with_kind: bool,
    /// Whether a table of another kind was printed before.
    pub told: &'a Cell<bool>,
    pub selection: Selection,
    pub labels: &'a LabelColumns,
}

/// An object, and the pods that have it just so.
struct Found {
    object: Value,
    pods: Vec<String>,
}

impl Found {
    fn metadata(&self, field: &str) -> &str {
        self.object["metadata"][field].as_str().unwrap_or_default()
    }

    /// Whether it says the same: pods count their versions each for itself.
    fn says(&self, object: &Value) -> bool {
        let metadata = |object: &Value, field: &str| object["metadata"][field].clone();
        ["data", "binaryData", "immutable", "type"].iter().all(|field| self.object[field] == object[field])
            && ["name", "namespace", "labels", "annotations"]
                .iter()
                .all(|field| metadata(&self.object, field) == metadata(object, field))
    }
}

/// Asks every pod and prints.
pub fn show(kind: ObjectKind, names: &[String], wanted: &Wanted<'_>) -> Result<(), Failure> {
    let paths = Paths::from_env();
    let namespace = match wanted.all_namespaces {
        true => None,
        false => Some(wanted.namespace.unwrap_or(DEFAULT_NAMESPACE)),
    };
    let (mut found, failures) = found(&paths, kind, names, namespace)?;
    found.retain(|found| wanted.selection.selects(&found.object));
    if found.is_empty() && !failures.is_empty() {
        return all_well(failures);
    }
    match wanted.form {
        Form::Json => {
            target::print(&(serde_json::to_string_pretty(&listed(found, names.len() == 1))? + "\n"))?;
        }
        Form::Yaml => target::print(&(output::yaml(&listed(found, names.len() == 1)) + "\n"))?,
        Form::Name => {
            let line = |found: &Found| format!("{}/{}\n", kind.singular(), found.metadata("name"));
            target::print(&found.iter().map(line).collect::<String>())?;
        }
        Form::Table { .. } if found.is_empty() && wanted.with_kind => {}
        Form::Table { .. } if found.is_empty() => nothing_found(namespace),
        Form::Table { is_wide } => {
            print_table(&table(kind, &found, wanted, is_wide, jiff::Timestamp::now()), wanted.told)?;
        }
    }
    all_well(failures)
}

/// Prints what kubectl says of them.
pub fn describe(kind: ObjectKind, names: &[String], namespace: Option<&str>) -> Result<(), Failure> {
    let (found, failures) =
        found(&Paths::from_env(), kind, names, Some(namespace.unwrap_or(DEFAULT_NAMESPACE)))?;
    let texts = found.into_iter().map(|found| object::describe(kind, found.object));
    target::print(&texts.collect::<Result<Vec<_>, _>>()?.join("\n\n"))?;
    all_well(failures)
}

/// Those of these names, or all, of the pods of a namespace, or all pods; in order. And what is wrong with the names of
/// which there is none.
///
/// # Errors
/// A pod does not answer.
fn found(
    paths: &Paths,
    kind: ObjectKind,
    names: &[String],
    namespace: Option<&str>,
) -> anyhow::Result<(Vec<Found>, Vec<Failure>)> {
    let mut found: Vec<Found> = Vec::new();
    for pod in pods(paths, namespace) {
        for object in of_pod(paths, &pod, kind)? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
                continue;
            }
            let own = pod.identity.name.clone();
            match found.iter_mut().find(|found| found.says(&object)) {
                Some(found) => found.pods.push(own),
                None => found.push(Found { object, pods: vec![own] }),
            }
        }
    }
    let is_missing = |name: &&String| !found.iter().any(|found| found.metadata("name") == **name);
    let missing = |name: &String| missing(kind, name, namespace.unwrap_or("any"));
    let failures = names.iter().filter(is_missing).map(missing).collect();
    let key = |found: &Found| (found.metadata("namespace").to_owned(), found.metadata("name").to_owned());
    found.sort_by_key(key);
    Ok((found, failures))
}

/// One object, or a List of them as kubectl prints it.
fn listed(mut found: Vec<Found>, is_one: bool) -> Value {
    if is_one && found.len() == 1 {
        return found.remove(0).object;
    }
    let items: Vec<_> = found.into_iter().map(|found| found.object).collect();
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

fn table(
    kind: ObjectKind,
    found: &[Found],
    wanted: &Wanted<'_>,
    is_wide: bool,
    now: jiff::Timestamp,
) -> String {
    let mut text = String::new();
    let mut line = |namespace: &str, cells: &[&str], labels: Vec<String>| {
        let namespace = wanted.all_namespaces.then_some(namespace);
        let cells = namespace.into_iter().chain(cells.iter().copied()).map(str::to_owned);
        text.push_str(&(cells.chain(labels).collect::<Vec<_>>().join("\t") + "\n"));
    };
    let shown = [true, kind == ObjectKind::Secret, true, true, is_wide];
    if wanted.with_headings {
        let headings = columns(shown, ["NAME", "TYPE", "DATA", "AGE", "PODS"]);
        line("NAMESPACE", &headings, wanted.labels.headings().collect());
    }
    for one in found {
        let count = |field: &str| one.object[field].as_object().map_or(0, serde_json::Map::len);
        let data = (count("data") + count("binaryData")).to_string();
        let age = since(one.metadata("creationTimestamp").parse().ok(), now);
        let type_ = one.object["type"].as_str().unwrap_or_default();
        let pods = one.pods.join(",");
        let name = one.metadata("name");
        let name = if wanted.with_kind { format!("{}/{name}", kind.singular()) } else { name.to_owned() };
        let labels = serde_json::from_value(one.object["metadata"]["labels"].clone()).unwrap_or_default();
        let labels = wanted.labels.cells(Some(&labels)).collect();
        line(one.metadata("namespace"), &columns(shown, [&name, type_, &data, &age, &pods]), labels);
    }
    tabs::align(&text, 6, 3)
}

/// The cells of the columns that are shown.
fn columns(shown: [bool; 5], cells: [&str; 5]) -> Vec<&str> {
    cells.into_iter().zip(shown).filter_map(|(cell, shown)| shown.then_some(cell)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_as_kubectl_has_them() {
        let object = json!({
            "metadata": {"name": "login", "namespace": "prod", "creationTimestamp": "2026-11-20T16:00:00Z"},
            "data": {"a": "", "b": ""}, "binaryData": {"c": ""}, "type": "Opaque",
        });
        let found = [Found { object, pods: vec!["web".to_owned(), "db".to_owned()] }];
        let now = "2026-11-20T16:05:00Z".parse().unwrap();
        let form = Form::Table { is_wide: false };
        let mut wanted = Wanted {
            namespace: None,
            all_namespaces: false,
            form,
            with_headings: true,
            with_kind: false,
            told: &Cell::new(false),
            selection: Selection::default(),
            labels: &LabelColumns::default(),
        };
        let expected = "NAME    DATA   AGE\nlogin   3      5m\n";
        assert_eq!(table(ObjectKind::ConfigMap, &found, &wanted, false, now), expected);
        let expected = "NAME    TYPE     DATA   AGE\nlogin   Opaque   3      5m\n";
        assert_eq!(table(ObjectKind::Secret, &found, &wanted, false, now), expected);
        (wanted.all_namespaces, wanted.with_headings) = (true, false);
        let expected = "prod   login   3     5m    web,db\n";
        assert_eq!(table(ObjectKind::ConfigMap, &found, &wanted, true, now), expected);
    }
}
