//! One guest for the tests of `wasi:config`, `wasi:keyvalue` and `peapod:pod/identity`: does one thing, named by its
//! first argument.
//!
//! What it got is a line on stdout. An error is a line on stderr, `state: <command>: <text>`, with exit code 1.

mod draft;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

wit_bindgen::generate!({
    path: ["../../../wit/peapod-pod", "../../../wit/wasi-config", "../../../wit/wasi-keyvalue"],
    inline: "
        package peapod:state-guest;
        world state {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:keyvalue/batch@0.2.0-draft2;
            import peapod:pod/identity@0.1.1;
        }
    ",
    world: "peapod:state-guest/state",
    generate_all,
});

use peapod::pod::identity;
use wasi::config::store as config;
use wasi::keyvalue::atomics::{self, Cas, CasError};
use wasi::keyvalue::{batch, store};

/// Between two looks at something that another changes.
const TICK: Duration = Duration::from_millis(10);

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("state: {}: {error}", words.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Outcome {
    match *words {
        // wasi:config.
        ["config", key] => {
            let found = config::get(key).map_err(|error| format!("{error:?}"))?;
            println!("config {key}={}", found.as_deref().unwrap_or("(none)"));
        }
        ["config-all"] => {
            let mut all = config::get_all().map_err(|error| format!("{error:?}"))?;
            all.sort();
            println!(
                "config all {}",
                all.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
            );
        }
        // wasi:keyvalue.
        ["get", bucket, key] => {
            let found = open(bucket)?.get(key).map_err(text)?;
            println!(
                "{key}={}",
                found.map_or("(none)".into(), |value| String::from_utf8_lossy(&value).into_owned())
            );
        }
        ["draft", bucket] => draft::tour(bucket)?,
        ["set", bucket, key, value] => {
            open(bucket)?.set(key, value.as_bytes()).map_err(text)?;
            println!("set {key}");
        }
        ["increment", bucket, key, times] => {
            let bucket = open(bucket)?;
            let mut sum = 0;
            for _ in 0..number(times)? {
                sum = atomics::increment(&bucket, key, 1).map_err(text)?;
            }
            println!("incremented to {sum}");
        }
        // Keeps one number after the other, and says so of each that is kept, for ever.
        ["ledger", bucket] => {
            let bucket = open(bucket)?;
            for line in 0.. {
                bucket.set(&format!("line-{line:08}"), line.to_string().as_bytes()).map_err(text)?;
                println!("kept {line}");
            }
        }
        // How many numbers were kept, without a gap.
        ["ledger-length", bucket] => {
            let bucket = open(bucket)?;
            let mut lines = 0;
            while let Some(value) = bucket.get(&format!("line-{lines:08}")).map_err(text)? {
                assert_eq!(value, lines.to_string().as_bytes());
                lines += 1;
            }
            println!("lines {lines}");
        }
        // Adds by compare-and-swap.
        ["swap", bucket, key, times] => {
            let bucket = open(bucket)?;
            for _ in 0..number(times)? {
                let mut cas = Cas::new(&bucket, key).map_err(text)?;
                loop {
                    let value = cas.current().map_err(text)?.unwrap_or_default();
                    let next = 1 + number(&String::from_utf8_lossy(&value)).unwrap_or(0);
                    match atomics::swap(cas, next.to_string().as_bytes()) {
                        Ok(()) => break,
                        Err(CasError::CasFailed(newer)) => cas = newer,
                        Err(CasError::StoreError(error)) => return Err(text(error)),
                    }
                }
            }
            println!("swapped");
        }
        // Waits until a number is there, at least so large.
        ["wait", bucket, key, least] => {
            let bucket = open(bucket)?;
            loop {
                let value = bucket.get(key).map_err(text)?.unwrap_or_default();
                if number(&String::from_utf8_lossy(&value)).unwrap_or(0) >= number(least)? {
                    println!("waited: {}", String::from_utf8_lossy(&value));
                    return Ok(());
                }
                thread::sleep(TICK);
            }
        }
        // Counts its runs; fails so that it is started again, until the count is reached.
        ["runs", bucket, wanted] => {
            let runs = atomics::increment(&open(bucket)?, "runs", 1).map_err(text)?;
            println!("run {runs}, restarts {}", identity::restart_count());
            if (runs as u64) < number(wanted)? {
                return Err("once more".to_owned());
            }
        }
        // Each function once.
        ["tour", bucket] => {
            let bucket = open(bucket)?;
            let pairs: Vec<(String, Vec<u8>)> =
                (0..1500).map(|n| (format!("k{n:04}"), vec![b'x'; 3])).collect();
            for pairs in pairs.chunks(500) {
                batch::set_many(&bucket, pairs).map_err(text)?;
            }
            let first = bucket.list_keys(None).map_err(text)?;
            let rest = bucket.list_keys(first.cursor.as_deref()).map_err(text)?;
            println!("keys {} and {}, more: {}", first.keys.len(), rest.keys.len(), rest.cursor.is_some());
            let found = batch::get_many(&bucket, &["k0001".into(), "none".into()]).map_err(text)?;
            let lengths: Vec<_> = found.iter().map(|(_, value)| value.as_ref().map(Vec::len)).collect();
            println!("many {lengths:?}");
            batch::delete_many(&bucket, &["k0001".into(), "none".into()]).map_err(text)?;
            bucket.delete("k0002").map_err(text)?;
            let there = ["k0001", "k0002", "k0003"].map(|key| bucket.exists(key));
            println!("there {}", there.map(|found| found.unwrap().to_string()).join(" "));
            println!("too large: {}", text(bucket.set("k", &vec![0; (1 << 20) + 1]).unwrap_err()));
            println!("bad name: {}", text(store::open("no name").unwrap_err()));
            let handles: Vec<_> = (0..2000).map_while(|_| store::open("more").ok()).collect();
            println!("handles {}", handles.len());
        }
        // peapod:pod/identity.
        ["identity"] => {
            let pairs = |list: Vec<(String, String)>| {
                list.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
            };
            println!(
                "i am {}/{} {} in {}, started again {}",
                identity::namespace(),
                identity::name(),
                identity::uid(),
                identity::container_name(),
                identity::restart_count()
            );
            println!("labels {}; annotations {}", pairs(identity::labels()), pairs(identity::annotations()));
            println!(
                "at {:?} on {:?} as {}",
                identity::pod_ips(),
                identity::host_ips(),
                identity::service_account()
            );
            println!("node {}", identity::node_name());
        }
        _ => return Err("no such command".to_owned()),
    }
    Ok(())
}

fn open(bucket: &str) -> Result<store::Bucket, String> {
    store::open(bucket).map_err(text)
}

fn text(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no-such-store".to_owned(),
        store::Error::AccessDenied => "access-denied".to_owned(),
        store::Error::Other(message) => message,
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}
