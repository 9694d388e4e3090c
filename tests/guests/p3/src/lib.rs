//! A component for WASI 0.3: asynchronous functions and streams instead of pollables.
//!
//! `p3 hello | exit CODE | args | tick MS COUNT | tcp-serve PORT [CONNECTIONS] |
//! tcp-connect IP PORT TEXT | tcp-leave IP PORT | tcp-bind IP PORT | udp-echo PORT [DATAGRAMS] | udp-send IP PORT TEXT |
//! resolve NAME | write PATH TEXT | read PATH | give-up PATH COUNT AFTER | mkdir PATH | ls PATH |
//! attack MOUNT SEED OPERATIONS BASE | hoard KIND MOUNT MOST`
//!
//! Results go to stdout, an error to stderr as `p3: <what>: <WASI error code>` with exit code 1. All of
//! it through `wasi:*@0.3` imports: nothing here prints or opens by the standard library, which speaks 0.2.

mod attack;
mod files;
mod hoard;
#[path = "../../probe/src/paths.rs"]
mod paths;
mod stdio;
mod tcp;
mod udp;

use std::fmt::Debug;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use wasip3::cli::{environment, exit};
use wasip3::clocks::monotonic_clock;
use wasip3::sockets::ip_name_lookup;
use wasip3::sockets::types::{IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};

use stdio::Stdout;

wasip3::cli::command::export!(Guest);

struct Guest;

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let mut out = Stdout::open();
        let result = command(args.get(1..).unwrap_or_default(), &mut out).await;
        out.close().await;
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                stdio::complain(&format!("p3: {error}\n")).await;
                Err(())
            }
        }
    }
}

/// What failed and how; printed as it is.
type Failure = String;

/// Says what a WASI error was about.
trait About<T> {
    fn about(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Debug> About<T> for Result<T, E> {
    fn about(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| format!("{what}: {error:?}"))
    }
}

async fn command(args: &[String], out: &mut Stdout) -> Result<(), Failure> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        [] | ["hello"] => out.line("hello from preview 3").await,
        ["exit", code] => {
            exit::exit_with_code(parse(code)?);
            return Err("the host came back from exit".into());
        }
        ["args", ..] => {
            for arg in environment::get_arguments() {
                out.line(&arg).await;
            }
        }
        ["tick", millis, count] => tick(Duration::from_millis(parse(millis)?), parse(count)?, out).await,
        ["tcp-serve", port] => tcp::serve(parse(port)?, u64::MAX, out).await?,
        ["tcp-serve", port, connections] => tcp::serve(parse(port)?, parse(connections)?, out).await?,
        ["tcp-connect", ip, port, text] => tcp::connect(address(ip, port)?, text, out).await?,
        ["tcp-leave", ip, port] => {
            tcp::leave(address(ip, port)?).await?;
            return Err("the host came back from exit".into());
        }
        ["tcp-bind", ip, port] => tcp::bind(address(ip, port)?, out).await?,
        ["udp-echo", port] => udp::echo(parse(port)?, u64::MAX, out).await?,
        ["udp-echo", port, datagrams] => udp::echo(parse(port)?, parse(datagrams)?, out).await?,
        ["udp-send", ip, port, text] => udp::send(address(ip, port)?, text, out).await?,
        ["write", path, text] => files::write(path, text, out).await?,
        ["read", path] => files::read(path, out).await?,
        ["give-up", path, count, after] => {
            files::give_up(path, parse(count)?, out).await?;
            files::read(after, out).await?;
        }
        ["mkdir", path] => files::mkdir(path, out).await?,
        ["ls", path] => files::list(path, out).await?,
        ["attack", mount, seed, operations, base] => {
            attack::attack(mount, parse(seed)?, parse(operations)?, base, out).await?;
        }
        ["hoard", kind, mount, most] => hoard::hoard(kind, mount, parse(most)?, out).await?,
        ["resolve", name] => resolve(name, out).await?,
        _ => return Err(format!("unknown command {words:?}")),
    }
    Ok(())
}

/// Waits again and again, and prints how long each wait really took, milliseconds.
async fn tick(pause: Duration, count: u64, out: &mut Stdout) {
    for index in 1..=count {
        let started = Instant::now();
        monotonic_clock::wait_for(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)).await;
        out.line(&format!("tick {index} after {} ms", started.elapsed().as_millis())).await;
    }
}

async fn resolve(name: &str, out: &mut Stdout) -> Result<(), Failure> {
    for address in ip_name_lookup::resolve_addresses(name.into()).await.about(name)? {
        out.line(&shown_ip(address).to_string()).await;
    }
    Ok(())
}

fn parse<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| format!("{text:?} is not a number in range"))
}

fn address(ip: &str, port: &str) -> Result<IpSocketAddress, Failure> {
    let port = parse(port)?;
    Ok(match ip.parse().map_err(|_| format!("{ip:?} is not an IP address"))? {
        IpAddr::V4(ip) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: ip.octets().into() }),
        IpAddr::V6(ip) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info: 0,
            address: ip.segments().into(),
            scope_id: 0,
        }),
    })
}

/// All IPv4 addresses of the pod.
fn any_address(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (0, 0, 0, 0) })
}

fn shown(address: IpSocketAddress) -> std::net::SocketAddr {
    match address {
        IpSocketAddress::Ipv4(v4) => (<[u8; 4]>::from(v4.address), v4.port).into(),
        IpSocketAddress::Ipv6(v6) => (<[u16; 8]>::from(v6.address), v6.port).into(),
    }
}

fn shown_ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4(v4) => <[u8; 4]>::from(v4).into(),
        IpAddress::Ipv6(v6) => <[u16; 8]>::from(v6).into(),
    }
}
