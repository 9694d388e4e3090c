//! What a guest can ask about its pod and itself: who it is, and its configuration.
//!
//! ```text
//!  pod worker ─ refresh ──► LivePod ◄─ get ─┐
//!             ─ each start ► About ─────────┴─► wasi::pod::identity, wasi::config
//! ```

use std::sync::{Arc, PoisonError, RwLock};

use crate::spec::Pod;
use crate::spec::environment::Surroundings;

/// The pod as it is now: its labels, annotations and ConfigMaps change while it runs. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct LivePod(Arc<RwLock<Arc<Pod>>>);

impl LivePod {
    /// The pod as it begins.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self(Arc::new(RwLock::new(pod)))
    }

    /// The pod is another one from now on. To be called whenever its labels, annotations or objects have changed; what
    /// guests ask from then on has the new answer.
    pub fn refresh(&self, pod: &Arc<Pod>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(pod);
    }

    /// The pod as it is now.
    pub fn get(&self) -> Arc<Pod> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one run of a container can know.
#[derive(Debug)]
pub struct About {
    /// Its pod.
    pub pod: LivePod,
    /// What the pod does not say of itself.
    pub around: Surroundings,
    /// The container's name.
    pub container: String,
    /// How often it was started before.
    pub restarts: u32,
    /// Its variables of `env` and `envFrom`, as they were resolved at its start.
    pub env: Vec<(String, String)>,
}

impl About {
    /// The container's configuration where the pod is `pod`: `data` of the ConfigMaps that the pod's annotations name, a
    /// later one over an earlier one, and its variables over all. A key may come more than once; the last one counts.
    /// A ConfigMap that is gone has no keys.
    pub fn configuration<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a str, &'a str)> {
        let names = pod.config_sources.get(&self.container).into_iter().flatten();
        let maps = names.filter_map(|name| pod.objects.config_maps.get(name));
        let data =
            maps.flat_map(|map| map.data.iter()).chain(self.env.iter().map(|(key, value)| (key, value)));
        data.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::{ConfigMap, Role};
    use crate::testing::spec as testing;

    fn map(pairs: &[(&str, &str)]) -> Arc<ConfigMap> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Arc::new(ConfigMap { data, ..ConfigMap::default() })
    }

    #[test]
    fn later_maps_go_over_earlier_ones_and_variables_over_all_and_updates_are_seen() {
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.config_sources.insert("web".into(), vec!["base".into(), "own".into(), "gone".into()]);
        pod.objects.config_maps.insert("base".into(), map(&[("a", "1"), ("b", "1"), ("c", "1")]));
        pod.objects.config_maps.insert("own".into(), map(&[("b", "2"), ("c", "2")]));
        let about = About { env: vec![("c".into(), "3".into())], ..testing::about(pod.clone(), "web") };
        let now = || {
            let pod = about.pod.get();
            let pairs = about.configuration(&pod).map(|(key, value)| (key.to_owned(), value.to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let expected = |pairs: [(&str, &str); 3]| pairs.map(|(key, value)| (key.into(), value.into())).into();
        assert_eq!(now(), expected([("a", "1"), ("b", "2"), ("c", "3")]));

        pod.objects.config_maps.insert("own".into(), map(&[("b", "4")]));
        about.pod.refresh(&Arc::new(pod));
        assert_eq!(now(), expected([("a", "1"), ("b", "4"), ("c", "3")]));
    }
}
