//! Lookups against nameservers of the test's own, on the loopback of a network namespace of the test's own.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::spec::DnsOption;
use crate::testing::network::in_a_network;

/// Runs `test` on a thread in a network namespace with nothing but the loopback.
fn in_a_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_a_network(&[], |runtime| tokio::task::LocalSet::new().block_on(runtime, test()));
}

/// What a server was asked, in order.
type Log = Rc<std::cell::RefCell<Vec<String>>>;

/// How a server answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// By the name that it is asked for.
    Proper,
    Refuses,
    Fails,
    Silent,
}

/// A nameserver at `ip`, port 53; ends with the test's runtime.
async fn serve(ip: &str, manner: Manner) -> Log {
    let log = Log::default();
    let address: SocketAddr = format!("{ip}:53").parse().unwrap();
    let (udp, tcp) = (UdpSocket::bind(address).await.unwrap(), TcpListener::bind(address).await.unwrap());
    let (by_udp, by_tcp) = (log.clone(), log.clone());
    tokio::task::spawn_local(async move {
        let (mut buffer, mut seen) = ([0; 4096], HashMap::new());
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            for answer in answers(&query, manner, false, &by_udp, &mut seen) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let log = by_tcp.clone();
            tokio::task::spawn_local(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut buffer = vec![0; length.into()];
                    stream.read_exact(&mut buffer).await.unwrap();
                    let query = Message::from_vec(&buffer).unwrap();
                    for answer in answers(&query, manner, true, &log, &mut HashMap::new()) {
                        stream.write_u16(answer.len() as u16).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    log
}

/// The messages that a server sends for a query.
fn answers(
    query: &Message,
    manner: Manner,
    tcp: bool,
    log: &Log,
    seen: &mut HashMap<String, usize>,
) -> Vec<Vec<u8>> {
    let question = query.queries[0].clone();
    let (name, kind) = (question.name().to_ascii(), question.query_type());
    let times = seen.entry(format!("{name}{kind}")).or_default();
    *times += 1;
    log.borrow_mut().push(format!("{}{name} {kind}", if tcp { "tcp " } else { "" }));
    let mut answer = Message::response(query.id, OpCode::Query);
    answer.add_query(question.clone());
    let owner = question.name().clone();
    let records = |names: &[(&Name, RData)]| -> Vec<Record> {
        names.iter().map(|(name, data)| Record::from_rdata((*name).clone(), 60, data.clone())).collect()
    };
    let v4 = |last| RData::A(A::new(192, 0, 2, last));
    let v6 = |last| RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let is_v4 = kind == RecordType::A;
    let of_kind = |last: u8| if is_v4 { v4(last) } else { v6(last.into()) };
    let code = |code| (code, vec![]);
    let label = name.split('.').next().unwrap_or_default().to_owned();
    let target = Name::from_ascii("both.test.").unwrap();
    let (code, found) = match (manner, label.as_str()) {
        (Manner::Silent, _) | (_, "silent") => return vec![],
        (Manner::Refuses, _) | (_, "refused") => code(ResponseCode::Refused),
        (Manner::Fails, _) | (_, "servfail") => code(ResponseCode::ServFail),
        _ if !name.ends_with(".test.") => code(ResponseCode::NXDomain),
        (_, "both") => (ResponseCode::NoError, records(&[(&owner, of_kind(1))])),
        (_, "v4") if is_v4 => (ResponseCode::NoError, records(&[(&owner, v4(4))])),
        (_, "v6") if !is_v4 => (ResponseCode::NoError, records(&[(&owner, v6(6))])),
        (_, "v4" | "v6" | "none") => (ResponseCode::NoError, vec![]),
        (_, "half") if is_v4 => (ResponseCode::NoError, records(&[(&owner, v4(5))])),
        (_, "half") => (ResponseCode::ServFail, vec![]),
        (_, "alias") => {
            let chain = [(&owner, RData::CNAME(CNAME(target.clone()))), (&target, of_kind(1))];
            (ResponseCode::NoError, records(&chain))
        }
        // The client has to ask for the target itself.
        (_, "far-alias") => (ResponseCode::NoError, records(&[(&owner, RData::CNAME(CNAME(target)))])),
        (_, "loop") => (ResponseCode::NoError, records(&[(&owner, RData::CNAME(CNAME(owner.clone())))])),
        // The first is lost.
        (_, "lost") if *times == 1 => return vec![],
        (_, "lost") => (ResponseCode::NoError, records(&[(&owner, of_kind(7))])),
        (_, "big") if tcp => {
            let many: Vec<_> = (0..100).map(|last| (&owner, of_kind(last))).collect();
            (ResponseCode::NoError, records(&many))
        }
        (_, "big") => {
            answer.metadata.truncation = true;
            (ResponseCode::NoError, vec![])
        }
        (_, "spoofed") => {
            let mut spoofed = answer.clone();
            spoofed.metadata.id = query.id.wrapping_add(1);
            spoofed.add_answers(records(&[(&owner, of_kind(66))]));
            answer.add_answers(records(&[(&owner, of_kind(1))]));
            return vec![spoofed.to_vec().unwrap(), answer.to_vec().unwrap()];
        }
        (_, "wrong-id") => {
            answer.metadata.id = query.id.wrapping_add(1);
            (ResponseCode::NoError, records(&[(&owner, of_kind(66))]))
        }
        (_, "garbage") => {
            let mut bytes = query.id.to_be_bytes().to_vec();
            bytes.extend([0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xff, 0xff, 0xff]);
            return vec![bytes];
        }
        _ => code(ResponseCode::NXDomain),
    };
    answer.metadata.response_code = code;
    if found.is_empty() && matches!(code, ResponseCode::NXDomain | ResponseCode::NoError) {
        let zone = Name::from_ascii("test.").unwrap();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 60);
        answer.add_authority(Record::from_rdata(zone, 60, RData::SOA(soa)));
    }
    answer.add_answers(found);
    vec![answer.to_vec().unwrap()]
}

fn config(nameservers: &[&str], search: &[&str], options: &[&str]) -> NamesConfig {
    let option = |word: &&str| match word.split_once(':') {
        Some((name, value)) => DnsOption { name: name.into(), value: Some(value.into()) },
        None => DnsOption { name: (*word).into(), value: None },
    };
    let resolv_conf = ResolvConf {
        nameservers: nameservers.iter().map(|ip| ip.parse().unwrap()).collect(),
        search: search.iter().map(|domain| (*domain).to_owned()).collect(),
        options: options.iter().map(option).collect(),
    };
    NamesConfig { resolv_conf, ..NamesConfig::default() }
}

async fn resolve(names: &Names, name: &str) -> Result<Vec<String>> {
    let found = names.resolve(name, &Lookups::new(1)).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}

fn ips(list: &[&str]) -> Result<Vec<String>> {
    Ok(list.iter().map(|ip| (*ip).to_owned()).collect())
}

const ONE: &str = "127.0.0.1";
const TWO: &str = "127.0.0.2";

#[test]
fn every_kind_of_answer() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let names = Names::new(config(&[ONE], &[], &["timeout:1", "attempts:1"]));
        for (name, expected) in [
            ("both.test", ips(&["192.0.2.1", "2001:db8::1"])),
            ("v4.test", ips(&["192.0.2.4"])),
            ("v6.test", ips(&["2001:db8::6"])),
            ("half.test", ips(&["192.0.2.5"])),
            ("alias.test", ips(&["192.0.2.1", "2001:db8::1"])),
            ("far-alias.test", ips(&["192.0.2.1", "2001:db8::1"])),
            ("spoofed.test", ips(&["192.0.2.1", "2001:db8::1"])),
            ("lost.test", ips(&["192.0.2.7", "2001:db8::7"])),
            ("none.test", Err(Error::NameUnresolvable)),
            ("nothing.test", Err(Error::NameUnresolvable)),
            ("servfail.test", Err(Error::TemporaryResolverFailure)),
            ("silent.test", Err(Error::TemporaryResolverFailure)),
            ("wrong-id.test", Err(Error::TemporaryResolverFailure)),
            ("refused.test", Err(Error::PermanentResolverFailure)),
            ("garbage.test", Err(Error::PermanentResolverFailure)),
        ] {
            let mut found = resolve(&names, name).await;
            // In this namespace nothing can be reached: the order means nothing.
            if let Ok(found) = &mut found {
                found.sort();
            }
            assert_eq!(found, expected, "{name}");
        }
        assert!(resolve(&names, "loop.test").await.is_err());
        assert!(!log.borrow().iter().any(|asked| asked.starts_with("tcp")));
        let big = resolve(&names, "big.test").await.unwrap();
        assert_eq!(big.len(), 2 * MAX_ADDRESSES);
        assert!(log.borrow().iter().any(|asked| asked == "tcp big.test. A"));
    });
}

#[test]
fn answers_are_remembered_and_failures_are_not() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let names = Names::new(config(&[ONE], &[], &["timeout:1"]));
        for (name, queries) in [("both.test", 2), ("nothing.test", 2), ("servfail.test", 4), ("half.test", 4)]
        {
            log.borrow_mut().clear();
            let first = resolve(&names, name).await;
            assert_eq!(resolve(&names, name).await, first);
            assert_eq!(log.borrow().len(), queries, "{name}: {:?}", log.borrow());
        }
    });
}

#[test]
fn search_domains_are_asked_in_order() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let asked = |names: Names, name: &'static str| {
            let log = log.clone();
            async move {
                log.borrow_mut().clear();
                let found = resolve(&names, name).await;
                let v4: Vec<String> =
                    log.borrow().iter().filter_map(|q| q.strip_suffix(" A").map(Into::into)).collect();
                (found, v4.join(" "))
            }
        };
        let names = |options: &[&str]| Names::new(config(&[ONE], &["a.invalid-zone", "test"], options));
        let (found, order) = asked(names(&["ndots:2"]), "v4").await;
        assert_eq!((found, order.as_str()), (ips(&["192.0.2.4"]), "v4.a.invalid-zone. v4.test."));
        let (found, order) = asked(names(&[]), "v4.test").await;
        assert_eq!((found, order.as_str()), (ips(&["192.0.2.4"]), "v4.test."));
        let (found, order) = asked(names(&["ndots:2"]), "v4.test.").await;
        assert_eq!((found, order.as_str()), (ips(&["192.0.2.4"]), "v4.test."));
        let (found, order) = asked(names(&[]), "x.example").await;
        assert_eq!(found, Err(Error::NameUnresolvable));
        assert_eq!(order, "x.example. x.example.a.invalid-zone. x.example.test.");
        // A server's failure for one domain does not hide the next; it is told when none has the name.
        let (found, _) = asked(Names::new(config(&[ONE], &["x.test", "test"], &[])), "servfail").await;
        assert_eq!(found, Err(Error::TemporaryResolverFailure));
        let (found, order) = asked(names(&["no-aaaa"]), "both.test").await;
        assert_eq!((found, order.as_str(), log.borrow().len()), (ips(&["192.0.2.1"]), "both.test.", 1));
    });
}

#[test]
fn the_next_server_is_asked_when_one_does_not_answer() {
    for manner in [Manner::Refuses, Manner::Fails, Manner::Silent] {
        in_a_namespace(move || async move {
            let (bad, good) = (serve(ONE, manner).await, serve(TWO, Manner::Proper).await);
            let names = Names::new(config(&[ONE, TWO], &[], &["timeout:1"]));
            assert_eq!(resolve(&names, "v4.test").await, ips(&["192.0.2.4"]));
            let before = bad.borrow().len();
            assert!(before >= 2);
            // The one that answered is asked first from now on.
            assert_eq!(resolve(&names, "v6.test").await, ips(&["2001:db8::6"]));
            assert_eq!((bad.borrow().len(), good.borrow().len()), (before, 4));
        });
    }
}

#[test]
fn a_server_that_is_not_there_is_known_at_once() {
    in_a_namespace(|| async {
        let _good = serve(TWO, Manner::Proper).await;
        // The timeout is longer than the test may take.
        let names = Names::new(config(&["127.0.0.3", TWO], &[], &["timeout:30"]));
        assert_eq!(resolve(&names, "v4.test").await, ips(&["192.0.2.4"]));
        // No route leads there.
        let names = Names::new(config(&["192.0.2.53", "2001:db8::53"], &[], &["timeout:30"]));
        assert_eq!(resolve(&names, "v4.test").await, Err(Error::TemporaryResolverFailure));
    });
}

#[test]
fn servers_take_turns_when_asked_to() {
    in_a_namespace(|| async {
        let (one, two) = (serve(ONE, Manner::Proper).await, serve(TWO, Manner::Proper).await);
        let names = Names::new(config(&[ONE, TWO], &[], &["rotate"]));
        for name in ["v4.test", "v6.test", "both.test", "none.test"] {
            let _ = resolve(&names, name).await;
        }
        assert_eq!((one.borrow().len(), two.borrow().len()), (4, 4));
    });
}

#[test]
fn tcp_alone_when_asked_to() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let names = Names::new(config(&[ONE], &[], &["use-vc"]));
        for name in ["v4.test", "v6.test"] {
            assert!(resolve(&names, name).await.is_ok());
        }
        assert!(log.borrow().len() == 4 && log.borrow().iter().all(|asked| asked.starts_with("tcp ")));
    });
}

#[test]
fn a_lookup_that_is_dropped_leaves_nothing_behind() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let names = Rc::new(Names::new(config(&[ONE], &[], &["timeout:30"])));
        let lookups = Rc::new(Lookups::new(1));
        let task = {
            let (names, lookups) = (names.clone(), lookups.clone());
            tokio::task::spawn_local(async move { names.resolve("silent.test", &lookups).await })
        };
        while log.borrow().len() < 2 {
            tokio::task::yield_now().await;
        }
        // A socket for each of the two queries.
        let sockets = || {
            let text = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
            text.lines().filter(|line| line.contains("0100007F:0035 01")).count()
        };
        assert_eq!((sockets(), lookups.free()), (2, 0));
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!((sockets(), lookups.free()), (0, 1));
    });
}

/// One pod beside the one that asks.
#[derive(Debug)]
struct OneNeighbour;

impl Neighbours for OneNeighbour {
    fn pods(&self) -> Arc<Vec<Neighbour>> {
        Arc::new(vec![Neighbour {
            name: "db-0".into(),
            namespace: "default".into(),
            hostname: "db-0".into(),
            subdomain: Some("db".into()),
            addresses: vec!["10.201.0.9".parse().unwrap()],
            process: Some((1, 1)),
        }])
    }

    fn is_alive(&self, _: &Neighbour) -> bool {
        true
    }
}

#[test]
fn names_of_the_cluster_are_never_asked_upstream() {
    in_a_namespace(|| async {
        let log = serve(ONE, Manner::Proper).await;
        let search = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.test"];
        let own = Neighbour { name: "me".into(), namespace: "default".into(), ..Neighbour::default() };
        let cluster = Some(Cluster { own, others: Arc::new(OneNeighbour) });
        let names = Names::new(NamesConfig { cluster, ..config(&[ONE], &search, &["ndots:5"]) });
        for name in [
            "db-0",
            "db",
            "db-0.db",
            "db-0.default",
            "db-0.default.pod",
            "db-0.default.pod.cluster.local",
            "db.default.svc.cluster.local.",
            "db-0.db.default.svc.cluster.local",
            "10-201-0-9.default.pod",
        ] {
            assert_eq!(resolve(&names, name).await, ips(&["10.201.0.9"]), "{name}");
        }
        for name in ["other.default.svc.cluster.local.", "10-201-0-8.default.pod.cluster.local."] {
            assert_eq!(resolve(&names, name).await, Err(Error::NameUnresolvable), "{name}");
        }
        assert!(log.borrow().is_empty(), "{:?}", log.borrow());
        // What is none goes on, without the cluster's domains.
        assert_eq!(resolve(&names, "v4.test").await, ips(&["192.0.2.4"]));
        assert!(log.borrow().iter().all(|asked| !asked.contains("cluster.local")));
        assert_eq!(log.borrow()[0], "v4.test.corp.test. A");
    });
}

#[tokio::test]
async fn lookups_that_wait_are_bounded() {
    let (names, lookups) = (Names::new(config(&[ONE], &[], &[])), Lookups::new(0));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting: Vec<_> =
        (0..MAX_PENDING_LOOKUPS).map(|_| Box::pin(names.resolve("a", &lookups))).collect();
    assert!(waiting.iter_mut().all(|lookup| lookup.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(names.resolve("a", &lookups).await, Err(Error::TemporaryResolverFailure));
    assert!(names.resolve("localhost", &lookups).await.is_ok());
    drop(waiting);
    assert!(Box::pin(names.resolve("a", &lookups)).as_mut().poll(&mut cx).is_pending());
}

#[tokio::test]
async fn without_a_way_to_a_nameserver_that_is_said_at_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let names = Names::new(NamesConfig {
        unreachable: Some("no way".into()),
        tell: Tell::new(move |text| listener.lock().unwrap().push(text)),
        ..config(&["192.0.2.53"], &[], &[])
    });
    for _ in 0..3 {
        assert_eq!(resolve(&names, "example.com").await, Err(Error::PermanentResolverFailure));
    }
    assert_eq!(resolve(&names, "localhost").await, ips(&["127.0.0.1", "::1"]));
    assert_eq!(*told.lock().unwrap(), ["no way"], "once");
}

#[tokio::test]
async fn own_names_need_nobody() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let alias = |ip: &str, names: &[&str]| crate::spec::HostAlias {
        ip: address(ip),
        hostnames: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let hosts = Hosts::of_pod(
        &["web-0.web.default.svc.cluster.local".into(), "web-0".into()],
        &[address("10.0.0.2")],
        &[alias("10.1.1.1", &["db", "db.example"]), alias("10.1.1.2", &["db"])],
    );
    let names = Names::new(NamesConfig { hosts, ..NamesConfig::default() });
    // Nor do they need a permit.
    let lookups = Lookups::new(0);
    for (name, expected) in [
        ("localhost", &["127.0.0.1", "::1"][..]),
        ("LocalHost.", &["127.0.0.1", "::1"]),
        ("a.localhost", &["127.0.0.1", "::1"]),
        ("web-0", &["10.0.0.2"]),
        ("web-0.web.default.svc.cluster.local", &["10.0.0.2"]),
        ("db", &["10.1.1.1", "10.1.1.2"]),
        ("DB.example.", &["10.1.1.1"]),
        ("192.0.2.1", &["192.0.2.1"]),
        ("[::1]", &["::1"]),
    ] {
        let expected: Vec<IpAddr> = expected.iter().map(|ip| address(ip)).collect();
        assert_eq!(names.resolve(name, &lookups).await, Ok(expected), "{name}");
    }
    assert_eq!(names.resolve("not a name", &lookups).await, Err(Error::InvalidArgument));
}
