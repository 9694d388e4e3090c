//! Durations and times as kubectl writes them.

use jiff::Timestamp;

/// How long ago `then` was: `5s`, `2m10s`, `3h`, `4d2h` (`HumanDuration` in
/// `k8s.io/apimachinery/pkg/util/duration/duration.go`).
pub fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| human(now.duration_since(then).as_secs()))
}

fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    // The second unit, where there is something to tell of it.
    let with = |first: String, rest: i64, unit: &str| match rest {
        0 => first,
        rest => format!("{first}{rest}{unit}"),
    };
    match seconds {
        // Clocks differ; by more than this they are wrong.
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => with(format!("{minutes}m"), seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with(format!("{hours}h"), minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => with(format!("{days}d"), hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => with(format!("{}y", days / 365), days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// `Fri, 20 Nov 2026 16:10:38 +0000`: RFC 1123 with the zone as a number.
pub fn rfc1123z(at: Timestamp) -> String {
    // Local time needs the time zone database; UTC is the same everywhere.
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kubectls() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (130, "2m10s"),
            (600, "10m"),
            (3600 * 3 - 1, "179m"),
            (3600 * 3, "3h"),
            (3600 * 3 + 60, "3h1m"),
            (3600 * 9, "9h"),
            (3600 * 48, "2d"),
            (3600 * 50, "2d2h"),
            (86_400 * 9, "9d"),
            (86_400 * 730, "2y"),
            (86_400 * 731, "2y1d"),
            (86_400 * 365 * 9, "9y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
        assert_eq!(since(None, Timestamp::UNIX_EPOCH), "<unknown>");
        assert_eq!(rfc1123z(Timestamp::UNIX_EPOCH), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
