//! The files of `-f`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The files that are meant: of a directory those that kubectl takes, in order (`ExpandPathsToFileVisitors` in
/// `k8s.io/cli-runtime/pkg/resource/visitor.go`).
pub fn files(named: &[PathBuf], recursive: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            ensure!(path == Path::new("-") || path.exists(), "the path {path:?} does not exist");
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        walk(path, recursive, &mut files)?;
        ensure!(files.len() > before, "{}: no file of *.yaml, *.yml or *.json", path.display());
    }
    Ok(files)
}

/// Those of a directory, by name. Links to directories are not followed.
fn walk(directory: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {}", directory.display());
    let entries = directory.read_dir().with_context(unreadable)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if recursive {
                walk(&path, recursive, files)?;
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order() {
        let root = tempfile::tempdir().unwrap();
        for file in ["b.yaml", "a/x.json", "a/b/y.yml", "c.txt", "d/none.txt"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |named: &[&str], recursive| {
            let named: Vec<_> = named.iter().map(|name| root.path().join(name)).collect();
            let found = files(&named, recursive).map_err(|error| error.to_string())?;
            let below = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
            Ok::<_, String>(found.iter().map(below).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(found(&[""], false).unwrap(), "b.yaml");
        assert_eq!(found(&[""], true).unwrap(), "a/b/y.yml a/x.json b.yaml");
        assert_eq!(found(&["c.txt", "a"], false).unwrap(), "c.txt a/x.json");
        assert!(found(&["none"], false).unwrap_err().contains("does not exist"));
        assert!(found(&["d"], true).unwrap_err().contains("no file of *.yaml"));
        assert_eq!(files(&["-".into()], false).unwrap(), [PathBuf::from("-")]);
    }
}
