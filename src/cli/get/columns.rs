//! `-L` and `--show-labels`: columns of labels, which every kind can have
//! (`k8s.io/cli-runtime/pkg/printers/tableprinter.go`).

use std::collections::BTreeMap;

/// Labels of an object.
type Labels = BTreeMap<String, String>;

/// Which columns there are after all others.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LabelColumns {
    /// With a column for each of these labels.
    #[arg(short = 'L', long = "label-columns", value_name = "LABEL", value_delimiter = ',')]
    keys: Vec<String>,
    /// With all labels, as the last column.
    #[arg(long)]
    show_labels: bool,
}

impl LabelColumns {
    /// Their headings.
    pub fn headings(&self) -> impl Iterator<Item = String> {
        let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_uppercase();
        self.keys.iter().map(name).chain(self.show_labels.then(|| "LABELS".to_owned()))
    }

    /// An object's cells in them.
    pub fn cells(&self, labels: Option<&Labels>) -> impl Iterator<Item = String> {
        let none = || "<none>".to_owned();
        let value =
            move |key: &String| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_else(none);
        let all = || {
            let pairs: Vec<_> =
                labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
            if pairs.is_empty() { none() } else { pairs.join(",") }
        };
        self.keys.iter().map(value).chain(self.show_labels.then(all))
    }
}
