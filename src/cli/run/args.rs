//! The command line of `peapod run`.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::cli::output;
use crate::sandbox::network::{PREFIX_V6_MAX, PodNetworks};
use crate::spec::NetworkMode;

/// The name of standard output.
pub(super) const STDOUT: &str = "-";

/// The longest `--timeout`: 136 years.
const MAX_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

/// Run a pod in the foreground until it ends or is stopped.
///
/// The pod gets Linux namespaces and a cgroup of its own. Ctrl-C ends it gracefully within its
/// terminationGracePeriodSeconds, a second Ctrl-C at once; either way nothing of it is left behind.
/// The containers' standard output and error appear on this command's.
///
/// NetworkPolicy documents beside the Pod that select it are enforced. The annotation
/// peapod.dev/network.<container> narrows one container further, inside the pod too: "connect:
/// logs.example.com:443/tcp, localhost:9000; bind: 8080; resolve: none", or none for no network.
#[derive(clap::Args)]
#[command(after_help = "\
Exit code:
  0      the pod Succeeded
  1-255  the failing container's code; 134 trapped, 137 killed or out of memory
  2      bad manifest or command line
  124    --timeout was over
  125    peapod or the host could not do it
  126    an image cannot run
  127    an image is missing
  129    the terminal was closed (SIGHUP)
  130    Ctrl-C (SIGINT)
  143    SIGTERM")]
pub struct Args {
    /// A Pod manifest in YAML or JSON; - reads standard input.
    pub(super) file: PathBuf,
    /// Build images that are directories of guest source, where missing or older than the source.
    #[arg(long)]
    pub(super) build: bool,
    /// Run the pod under this name.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// The pod's network [default: the manifest's: pod, or host with hostNetwork].
    #[arg(long, value_name = "MODE")]
    pub(super) network: Option<Network>,
    /// Where pods' IPv4 addresses come from; moved aside when the host already routes it.
    #[arg(long, value_name = "CIDR", default_value_t = PodNetworks::default().v4, value_parser = parse_cidr)]
    pub(super) pod_cidr: Ipv4Net,
    /// Where pods' IPv6 addresses come from, each the IPv4 address behind this prefix of at most 96 bits;
    /// moved aside when the host already routes it.
    #[arg(long, value_name = "CIDR", default_value_t = PodNetworks::default().v6, value_parser = parse_cidr_v6)]
    pub(super) pod_cidr_v6: Ipv6Net,
    /// Let CNI plugins see to the pod's network: the first *.conflist, *.conf or *.json of DIR by name.
    #[arg(long, value_name = "DIR")]
    pub(super) cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are; may be given more than once [default: $CNI_PATH, or /opt/cni/bin and /usr/lib/cni].
    #[arg(long, value_name = "DIR", requires = "cni_conf_dir")]
    pub(super) cni_bin_dir: Vec<PathBuf>,
    /// Stop the pod after this long: 90, 90s, 5m, 1h30m. Exit code 124.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,
    /// Print the final Pod with its status on standard output; the containers' output goes to standard
    /// error then.
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) output: Option<output::Format>,
    /// How long a container that has ended again waits for its restart: 500ms, 10s, 5m; doubled with each restart
    /// in a row up to 5m. 0 restarts at once.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(super) backoff_base: Duration,
    /// Keep the containers' logs, in CRI format, under DIR/<namespace>_<pod>_<uid>/<container>/.
    #[arg(long, value_name = "DIR")]
    pub(super) log_dir: Option<PathBuf>,
    /// Record the traffic between the pod's containers, which the kernel never sees, in a file for tcpdump
    /// and Wireshark; - is standard output: `| wireshark -k -i -`.
    #[arg(long, value_name = "FILE")]
    pub(super) pcap: Option<PathBuf>,
    /// How often the use of the disk is looked at, for tests.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, hide = true)]
    pub(super) storage_period: Option<Duration>,
    /// When the pod has ended, write when the steps of its start happened in FILE, as a trace for
    /// ui.perfetto.dev and chrome://tracing.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Network {
    /// A network namespace with an address of its own.
    Pod,
    /// A network namespace with loopback only.
    None,
    /// The host's network.
    Host,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Pod => Self::Pod,
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

impl Args {
    /// Whether the recording goes to standard output.
    pub(super) fn pcap_is_stdout(&self) -> bool {
        self.pcap.as_deref() == Some(Path::new(STDOUT))
    }

    /// What no option alone shows to be wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.pcap_is_stdout() {
            anyhow::ensure!(self.output.is_none(), "--pcap - and -o both want standard output");
            let is_terminal = std::io::stdout().is_terminal();
            anyhow::ensure!(!is_terminal, "--pcap -: standard output is a terminal; use a file or a pipe");
        }
        Ok(())
    }
}

/// `90`, `90s`, `1h30m`: seconds, or what Kubernetes' durations look like.
fn parse_duration(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => parse_span(text),
    }
}

/// The same, but not nothing.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("no pod ends before it begins; leave --timeout out for none".to_owned());
    }
    Ok(duration)
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "expected a duration such as 90s, 5m or 1h30m".to_owned())?;
    let duration = Duration::try_from(span).map_err(|_| "a duration cannot be negative".to_owned())?;
    // Clocks overflow beyond.
    if duration > MAX_TIMEOUT {
        return Err(format!("a duration can be at most {}h", MAX_TIMEOUT.as_secs() / 3600));
    }
    Ok(duration)
}

/// `10.201.0.0/16`.
fn parse_cidr(text: &str) -> Result<Ipv4Net, String> {
    let form = "expected a network such as 10.201.0.0/16";
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| format!("{form}: an address, / and the length of its prefix"))?;
    let address: Ipv4Addr =
        address.parse().map_err(|_| format!("{form}: {address:?} is not an IPv4 address"))?;
    if address.is_multicast()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_broadcast()
    {
        return Err(format!("{form}: {address} is not an address that is routed"));
    }
    let wrong = || format!("{form}: the prefix length {prefix:?} is not a number from 0 to 32");
    let prefix = prefix.parse().map_err(|_| wrong())?;
    Ipv4Net::new(address, prefix).map_err(|_| wrong())
}

/// `fd70:6561:706f:64::/96`.
fn parse_cidr_v6(text: &str) -> Result<Ipv6Net, String> {
    let form = format!("expected a network such as {}", PodNetworks::default().v6);
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| format!("{form}: an address, / and the length of its prefix"))?;
    let address: Ipv6Addr =
        address.parse().map_err(|_| format!("{form}: {address:?} is not an IPv6 address"))?;
    if address.is_multicast()
        || address.is_unicast_link_local()
        || address.is_unspecified()
        || address.is_loopback()
    {
        return Err(format!("{form}: {address} is not an address that is routed"));
    }
    let wrong = || format!("{form}: the prefix length {prefix:?} is not a number from 1 to {PREFIX_V6_MAX}");
    let prefix =
        prefix.parse().ok().filter(|prefix| (1..=PREFIX_V6_MAX).contains(prefix)).ok_or_else(wrong)?;
    Ipv6Net::new(address, prefix).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(parse_timeout("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["0", "0s", "", "-5s", "soon", "2562047788015215h", "99999999999999999999"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn a_wrong_network_says_which_part_is_wrong() {
        assert_eq!(parse_cidr("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        for (wrong, words) in [
            ("10.0.0.0/33", "prefix length \"33\""),
            ("10.0.0.0/", "prefix length"),
            ("10.0.0/8", "not an IPv4 address"),
            ("10.0.0.0", "length of its prefix"),
            ("224.0.0.0/8", "not an address that is routed"),
            ("169.254.0.0/16", "not an address that is routed"),
        ] {
            let error = parse_cidr(wrong).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(parse_cidr_v6("fd00::/64"), Ok("fd00::/64".parse().unwrap()));
        for (wrong, words) in [
            ("fd00::/97", "from 1 to 96"),
            ("fd00::/0", "from 1 to 96"),
            ("fd00::", "length of its prefix"),
            ("10.0.0.0/8", "not an IPv6 address"),
            ("fe80::/64", "not an address that is routed"),
        ] {
            let error = parse_cidr_v6(wrong).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
