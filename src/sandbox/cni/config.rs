//! The configuration of a chain of plugins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniError, PORT_MAPPINGS};

/// What this speaks, the newest last.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The extensions of configurations, as libcni has them.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];
/// The largest configuration, bytes: they are written by hand.
const FILE_MAX: u64 = 1 << 20;
/// The longest chain: each plugin is a process that a start waits for.
const PLUGINS_MAX: usize = 16;

/// A chain of plugins as its configuration describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// The network's name.
    pub(super) name: String,
    /// The version that all of it speaks.
    version: String,
    /// Each plugin's own configuration.
    pub(super) plugins: Vec<Map<String, Value>>,
    directories: Vec<PathBuf>,
}

impl Chain {
    /// The first configuration in `directory` by name; its plugins have to be in `plugin_directories`.
    ///
    /// # Errors
    /// See [`CniError`]; every one names its file and field.
    pub fn load(directory: &Path, plugin_directories: Vec<PathBuf>) -> Result<Self, CniError> {
        let file_error = |action, path: &Path, source| CniError::File { action, path: path.into(), source };
        let entries = fs::read_dir(directory).map_err(|error| file_error("read", directory, error))?;
        let is_configuration = |path: &PathBuf| {
            path.extension().is_some_and(|found| EXTENSIONS.iter().any(|extension| found == *extension))
        };
        let path = entries.flatten().map(|entry| entry.path()).filter(is_configuration).min();
        let path = path.ok_or_else(|| CniError::NoConfiguration(directory.into()))?;
        let text = fs::metadata(&path).and_then(|metadata| match metadata.len() {
            length if length > FILE_MAX => Err(io::ErrorKind::FileTooLarge.into()),
            _ => fs::read(&path),
        });
        let text = text.map_err(|error| file_error("read", &path, error))?;
        let parsed = serde_json::from_slice(&text).map_err(|error| format!("no JSON: {error}"));
        let chain = parsed
            .and_then(|value| Self::parse(value, plugin_directories))
            .map_err(|message| CniError::Configuration { path, message })?;
        (0..chain.plugins.len()).try_for_each(|index| chain.find(index).map(drop))?;
        Ok(chain)
    }

    /// The field that is wrong and why, otherwise.
    fn parse(value: Value, directories: Vec<PathBuf>) -> Result<Self, String> {
        let Value::Object(mut fields) = value else { return Err("not an object".into()) };
        let version = choose_version(&fields)?;
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(format!(
                "name: {name:?}: required; letters, digits, '_', '.' and '-', beginning with a letter or digit"
            ));
        }
        let plugins = match fields.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("plugins: not a list".into()),
            // A configuration of one plugin.
            None if fields.contains_key("type") => vec![Value::Object(fields)],
            None => return Err("plugins: required; a list of plugins, each with its type".into()),
        };
        if plugins.is_empty() || plugins.len() > PLUGINS_MAX {
            return Err(format!("plugins: {} of them; from 1 to {PLUGINS_MAX} are possible", plugins.len()));
        }
        let plugins = plugins.into_iter().enumerate().map(|(index, plugin)| {
            let Value::Object(plugin) = plugin else {
                return Err(format!("plugins[{index}]: not an object"));
            };
            let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            match kind.is_empty() || kind.contains('/') {
                true => {
                    Err(format!("plugins[{index}].type: {kind:?}: required; the name of a plugin's file"))
                }
                false => Ok(plugin),
            }
        });
        let plugins = plugins.collect::<Result<_, _>>()?;
        Ok(Self { name, version, plugins, directories })
    }

    /// The name of plugin `index`.
    pub(super) fn plugin_name(&self, index: usize) -> &str {
        let plugin = self.plugins.get(index);
        plugin.and_then(|plugin| plugin.get("type")).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether one of its plugins sees to ports of the host.
    pub fn maps_ports(&self) -> bool {
        self.plugins.iter().any(|plugin| has_capability(plugin, PORT_MAPPINGS))
    }

    /// Where plugin `index` is.
    pub(super) fn find(&self, index: usize) -> Result<PathBuf, CniError> {
        let name = self.plugin_name(index);
        let mut paths = self.directories.iter().map(|directory| directory.join(name));
        paths
            .find(|path| path.is_file())
            .ok_or_else(|| CniError::NoPlugin { plugin: name.into(), directories: self.search_path() })
    }

    /// `CNI_PATH`, in which plugins look for others.
    pub(super) fn search_path(&self) -> String {
        let directories = self.directories.iter().map(|directory| directory.display().to_string());
        directories.collect::<Vec<_>>().join(":")
    }

    /// Whether its version is not before this one.
    pub(super) fn is_at_least(&self, version: (u32, u32)) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) >= version
    }

    /// What plugin `index` reads: its configuration and what the specification adds, of `runtime` as much as it
    /// declares to be able to.
    pub(super) fn input(
        &self,
        index: usize,
        mut runtime: Map<String, Value>,
        result: Option<&Value>,
    ) -> Value {
        let mut input = self.plugins.get(index).cloned().unwrap_or_default();
        runtime.retain(|capability, _| has_capability(&input, capability));
        input.insert("name".into(), self.name.clone().into());
        input.insert("cniVersion".into(), self.version.clone().into());
        if !runtime.is_empty() {
            input.insert("runtimeConfig".into(), runtime.into());
        }
        if let Some(result) = result {
            input.insert("prevResult".into(), result.clone());
        }
        input.into()
    }
}

/// Whether a plugin's configuration declares a capability.
pub(super) fn has_capability(plugin: &Map<String, Value>, capability: &str) -> bool {
    let declared = plugin.get("capabilities").and_then(|capabilities| capabilities.get(capability));
    declared.and_then(Value::as_bool) == Some(true)
}

/// The newest version that both sides speak: of `cniVersions` (since 1.1.0), and `cniVersion`.
fn choose_version(fields: &Map<String, Value>) -> Result<String, String> {
    let one = fields.get("cniVersion").and_then(Value::as_str);
    let many = fields.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let offered: Vec<_> = many.filter_map(Value::as_str).chain(one).collect();
    let common = VERSIONS.into_iter().rev().find(|version| offered.contains(version));
    common.map(str::to_owned).ok_or_else(|| {
        let found = if offered.is_empty() { "missing".to_owned() } else { offered.join(", ") };
        format!("cniVersion: {found}: must be one of {}", VERSIONS.join(", "))
    })
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_error_names_its_field() {
        let plugin = json!({"type": "ptp"});
        for (value, words) in [
            (json!(7), "not an object"),
            (json!({"name": "n", "plugins": [plugin]}), "cniVersion: missing"),
            (
                json!({"cniVersion": "0.2.0", "name": "n", "plugins": [plugin]}),
                "cniVersion: 0.2.0: must be one of 0.3.0",
            ),
            (json!({"cniVersion": "1.0.0", "plugins": [plugin]}), "name: \"\": required"),
            (json!({"cniVersion": "1.0.0", "name": "../n", "plugins": [plugin]}), "name: \"../n\""),
            (json!({"cniVersion": "1.0.0", "name": "n"}), "plugins: required"),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": {}}), "plugins: not a list"),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}), "plugins: 0 of them"),
            (
                json!({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin, 7]}),
                "plugins[1]: not an object",
            ),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin, {}]}), "plugins[1].type"),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../ptp"}]}), "plugins[0].type"),
        ] {
            let error = Chain::parse(value, vec![]).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_plugin_reads_its_configuration_and_what_it_can_do() {
        let value = json!({
            "cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.0.0", "9.0.0"], "name": "n",
            "plugins": [{"type": "ptp", "mtu": 1400}, {"type": "portmap", "capabilities": {"portMappings": true}}],
        });
        let chain = Chain::parse(value, vec!["/a".into(), "/b".into()]).unwrap();
        assert!(chain.is_at_least((0, 4)) && chain.is_at_least((1, 0)) && !chain.is_at_least((1, 1)));
        assert_eq!(chain.search_path(), "/a:/b");
        let runtime = || json!({"portMappings": []}).as_object().cloned().unwrap();
        assert_eq!(
            chain.input(0, runtime(), None),
            json!({"type": "ptp", "mtu": 1400, "name": "n", "cniVersion": "1.0.0"})
        );
        let result = json!({"ips": []});
        assert_eq!(
            chain.input(1, runtime(), Some(&result)),
            json!({
                "type": "portmap", "capabilities": {"portMappings": true}, "name": "n", "cniVersion": "1.0.0",
                "runtimeConfig": {"portMappings": []}, "prevResult": result,
            })
        );
        assert!(chain.maps_ports());
        let without = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp"}]});
        assert!(!Chain::parse(without, vec![]).unwrap().maps_ports());
        assert!(matches!(chain.find(0), Err(CniError::NoPlugin { plugin, .. }) if plugin == "ptp"));
    }

    #[test]
    fn the_first_file_by_name_is_the_chain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(matches!(Chain::load(path, vec![]), Err(CniError::NoConfiguration(_))));
        assert!(matches!(Chain::load(&path.join("none"), vec![]), Err(CniError::File { .. })));
        fs::write(path.join("00-readme.txt"), "").unwrap();
        fs::write(path.join("plugin"), "").unwrap();
        let one = json!({"cniVersion": "1.0.0", "name": "one", "type": "plugin"});
        fs::write(path.join("20-one.conf"), one.to_string()).unwrap();
        let chain = Chain::load(path, vec![path.into()]).unwrap();
        assert_eq!((chain.name.as_str(), chain.plugin_name(0)), ("one", "plugin"));
        fs::write(path.join("10-two.conflist"), "{").unwrap();
        let error = Chain::load(path, vec![path.into()]).unwrap_err().to_string();
        assert!(error.contains("10-two.conflist: no JSON"), "{error}");
    }
}
