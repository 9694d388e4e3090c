//! Which names a name may stand for: the search list and `ndots` of resolv.conf(5).

use super::query::is_name;

/// The names to ask for, in order, as glibc does: the name itself first when it has `ndots` dots, else last; with
/// each search domain in between. An absolute name stands for itself alone.
pub(super) fn candidates(name: &str, absolute: bool, search: &[String], ndots: usize) -> Vec<String> {
    let mut candidates: Vec<String> = Vec::with_capacity(search.len() + 1);
    let mut add = |candidate: String| {
        if is_name(&candidate) && !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    };
    let itself_first = name.bytes().filter(|byte| *byte == b'.').count() >= ndots;
    if absolute || itself_first {
        add(name.to_owned());
    }
    if !absolute {
        for domain in search {
            add(if domain == "." { name.to_owned() } else { format!("{name}.{domain}") });
        }
        add(name.to_owned());
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, search: &[&str], ndots: usize) -> Vec<String> {
        let search: Vec<String> = search.iter().map(|domain| (*domain).to_owned()).collect();
        let (name, absolute) = name.strip_suffix('.').map_or((name, false), |name| (name, true));
        candidates(name, absolute, &search, ndots)
    }

    #[test]
    fn the_order_is_that_of_resolv_conf() {
        for (name, search, ndots, expected) in [
            ("a", &["x.y", "z"][..], 1, &["a.x.y", "a.z", "a"][..]),
            ("a.b", &["x.y", "z"], 1, &["a.b", "a.b.x.y", "a.b.z"]),
            ("a.b", &["x.y"], 2, &["a.b.x.y", "a.b"]),
            ("a.b.c", &["x.y"], 2, &["a.b.c", "a.b.c.x.y"]),
            ("a", &["x"], 0, &["a", "a.x"]),
            ("a.", &["x"], 5, &["a"]),
            ("a.b.", &["x"], 5, &["a.b"]),
            ("a", &[], 5, &["a"]),
            ("a", &["x", "x"], 1, &["a.x", "a"]),
            ("a", &[".", "x"], 5, &["a", "a.x"]),
            ("a", &["x", "."], 5, &["a.x", "a"]),
            ("a", &["no name", "x"], 5, &["a.x", "a"]),
        ] {
            assert_eq!(ask(name, search, ndots), expected, "{name} {search:?} ndots:{ndots}");
        }
    }

    #[test]
    fn kubernetes_own_list() {
        let search = ["team.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"];
        assert_eq!(
            ask("db.other", &search, 5),
            [
                "db.other.team.svc.cluster.local",
                "db.other.svc.cluster.local",
                "db.other.cluster.local",
                "db.other.corp.example",
                "db.other"
            ]
        );
    }

    #[test]
    fn what_would_be_too_long_is_left_out() {
        let long = vec!["a".repeat(60); 4].join(".");
        assert_eq!(ask(&long, &["search.example"], 5).join(" "), long);
    }
}
