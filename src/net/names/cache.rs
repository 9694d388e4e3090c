//! What nameservers said, for as long as they said it is true. Pure: `now` is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most names that are remembered, for all containers of a pod: with [`super::MAX_ADDRESSES`] each, about a
/// megabyte.
const MAX_ENTRIES: usize = 1024;

/// The longest that an answer is believed, whatever it says: as systemd-resolved (`CACHE_TTL_MAX_USEC`).
const MAX_TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// The longest that a name is believed not to exist. Zones say hours, and a name that a pod waits for appears.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// Names, with their addresses; none: there is no such name, or it has no address.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

impl Cache {
    pub(super) fn get(&self, name: &str, now: Instant) -> Option<Arc<[IpAddr]>> {
        self.entries.get(name).filter(|entry| now < entry.until).map(|entry| entry.addresses.clone())
    }

    pub(super) fn insert(&mut self, name: &str, addresses: Arc<[IpAddr]>, until: Instant, now: Instant) {
        let most = if addresses.is_empty() { MAX_NEGATIVE_TTL } else { MAX_TTL };
        let until = until.min(now + most);
        if until <= now {
            return;
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.retain(|_, entry| now < entry.until);
        }
        if self.entries.len() >= MAX_ENTRIES
            && let Some(soonest) =
                self.entries.iter().min_by_key(|(_, e)| e.until).map(|(name, _)| name.clone())
        {
            self.entries.remove(&soonest);
        }
        self.entries.insert(name.to_owned(), Entry { addresses, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Arc<[IpAddr]> {
        Arc::new(["192.0.2.1".parse().unwrap()])
    }

    #[test]
    fn answers_live_as_long_as_they_say_and_not_too_long() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        cache.insert("a", some(), after(10), start);
        cache.insert("forever", some(), after(1 << 30), start);
        cache.insert("absent", Arc::new([]), after(1 << 30), start);
        cache.insert("zero", some(), start, start);
        assert_eq!(cache.get("a", after(9)), Some(some()));
        assert_eq!(cache.get("a", after(10)), None);
        assert_eq!(cache.get("forever", after(7199)), Some(some()));
        assert_eq!(cache.get("forever", after(7200)), None);
        assert_eq!(cache.get("absent", after(29)).map(|a| a.len()), Some(0));
        assert_eq!(cache.get("absent", after(30)), None);
        assert_eq!(cache.get("zero", start), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_ends_first() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for n in 0..2 * MAX_ENTRIES as u64 {
            cache.insert(&n.to_string(), some(), start + Duration::from_secs(n + 1), start);
        }
        assert_eq!(cache.entries.len(), MAX_ENTRIES);
        assert_eq!(cache.get("0", start), None);
        assert!(cache.get(&(2 * MAX_ENTRIES - 1).to_string(), start).is_some());
        // What has ended makes room for all.
        cache.insert("late", some(), start + Duration::from_secs(7000), start + Duration::from_secs(6000));
        assert_eq!(cache.entries.len(), 1);
    }
}
