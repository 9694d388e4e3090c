//! Manifests of any combination of lifecycle fields, mostly right, through the conversion.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{FieldError, Manifest};
use crate::spec::{self, Options};

/// One wrong value for this many right ones, so that many manifests are right as a whole.
const RIGHT_FOR_ONE_WRONG: u32 = 80;

type Field = (&'static str, BoxedStrategy<Option<Value>>);

/// None, or one of the values: seldom a wrong one.
fn maybe(right: &[Value], wrong: &[Value]) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(value(right, wrong)).boxed()
}

/// One of the values: seldom a wrong one, or none.
fn must(right: &[Value], wrong: &[Value]) -> BoxedStrategy<Option<Value>> {
    needed(value(right, wrong))
}

fn value(right: &[Value], wrong: &[Value]) -> BoxedStrategy<Value> {
    let right = proptest::sample::select(right.to_vec());
    if wrong.is_empty() {
        return right.boxed();
    }
    prop_oneof![RIGHT_FOR_ONE_WRONG => right, 1 => proptest::sample::select(wrong.to_vec())].boxed()
}

fn needed(strategy: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    prop_oneof![RIGHT_FOR_ONE_WRONG => strategy.prop_map(Some), 1 => Just(None)].boxed()
}

fn some(strategy: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(strategy).boxed()
}

fn list(strategy: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    some(proptest::collection::vec(strategy, 0..3).prop_map(Value::Array).boxed())
}

/// A mapping of these fields.
fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values.prop_map(move |values| named(names.iter().copied().zip(values))).boxed()
}

fn named(fields: impl Iterator<Item = (&'static str, Option<Value>)>) -> Value {
    Value::Object(fields.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
}

/// A mapping with one of `handlers`, seldom with some, and with `more`.
fn with_handler(handlers: Vec<Field>, more: Vec<Field>) -> BoxedStrategy<Value> {
    let one = handlers
        .clone()
        .into_iter()
        .map(|(name, value)| value.prop_map(move |value| named([(name, value)].into_iter())).boxed());
    let one = proptest::strategy::Union::new(one.collect::<Vec<_>>());
    let handlers = prop_oneof![RIGHT_FOR_ONE_WRONG => one, 1 => object(handlers)];
    let both = (handlers, object(more)).prop_map(|(mut handlers, more)| {
        if let (Value::Object(fields), Value::Object(more)) = (&mut handlers, more) {
            fields.extend(more);
        }
        handlers
    });
    both.boxed()
}

fn number() -> BoxedStrategy<Option<Value>> {
    maybe(&[json!(0), json!(1), json!(5), json!(i32::MAX)], &[json!(-1), json!(i32::MIN), json!(i64::MAX)])
}

fn port() -> BoxedStrategy<Option<Value>> {
    let wrong = [json!(0), json!(-1), json!(65536), json!("x"), json!("80"), json!("")];
    must(&[json!(80), json!(65535), json!("web")], &wrong)
}

fn text() -> BoxedStrategy<Option<Value>> {
    maybe(&[json!(""), json!("a")], &[json!("/a b"), json!("\u{0}€"), json!("[::1]"), json!("a:1")])
}

fn handlers() -> Vec<Field> {
    let header = object(vec![("name", must(&[json!("X-A")], &[json!("a b")])), ("value", text())]);
    let exec = object(vec![("command", must(&[json!(["a", "$(B)"])], &[json!([]), json!(["\u{0}"])]))]);
    let get = object(vec![
        ("host", text()),
        ("httpHeaders", list(header)),
        ("path", maybe(&[json!("/"), json!("a b?c"), json!("\u{0}€")], &[])),
        ("port", port()),
        ("scheme", maybe(&[json!(""), json!("HTTP"), json!("HTTPS")], &[json!("ftp")])),
    ]);
    vec![("exec", needed(exec)), ("httpGet", needed(get))]
}

fn tcp_socket() -> BoxedStrategy<Value> {
    object(vec![("host", text()), ("port", port())])
}

fn hook() -> BoxedStrategy<Option<Value>> {
    let mut handlers = handlers();
    handlers.push(("sleep", needed(object(vec![("seconds", must(&[json!(0)], &[json!(-1), json!(99)]))]))));
    let hook = with_handler(handlers, vec![]);
    let wrong = object(vec![("tcpSocket", some(tcp_socket()))]);
    some(prop_oneof![RIGHT_FOR_ONE_WRONG => hook, 1 => wrong].boxed())
}

fn probe(thresholds: &[Value], grace: &[Value]) -> BoxedStrategy<Option<Value>> {
    let grpc = object(vec![
        ("mode", maybe(&[json!("Plaintext"), json!("")], &[json!("TLS"), json!("x")])),
        ("port", must(&[json!(1)], &[json!(0), json!(70000)])),
        ("service", text()),
    ]);
    let mut handlers = handlers();
    handlers.push(("tcpSocket", needed(tcp_socket())));
    handlers.push(("grpc", needed(grpc)));
    let mut more = vec![
        ("successThreshold", maybe(thresholds, &[json!(2), json!(-1)])),
        ("terminationGracePeriodSeconds", maybe(grace, &[json!(0), json!(1), json!(i64::MAX)])),
    ];
    for field in ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"] {
        more.push((field, maybe(&[json!(0), json!(7), json!(i32::MAX)], &[json!(-1), json!(i32::MIN)])));
    }
    some(with_handler(handlers, more))
}

fn resources(requests: &[Value], limits: &[Value]) -> BoxedStrategy<Option<Value>> {
    let amounts = |amounts: &[Value]| {
        let amount = || maybe(amounts, &[json!("-1"), json!("1Gx"), json!("10G")]);
        some(object(vec![("cpu", amount()), ("memory", amount())]))
    };
    some(object(vec![("requests", amounts(requests)), ("limits", amounts(limits))]))
}

/// Null stands for a right value that is none.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

fn container(name: &str, policies: &[Value], attended: bool) -> BoxedStrategy<Value> {
    let wrong_name = [json!("A"), json!("main")];
    let exit_codes = object(vec![
        ("operator", must(&[json!("In"), json!("NotIn")], &[json!("x")])),
        ("values", maybe(&[json!([]), json!([1, 1, 256, -1])], &[])),
    ]);
    let rule = object(vec![
        ("action", must(&[json!("Restart")], &[json!("RestartAllContainers"), json!("x")])),
        ("exitCodes", needed(exit_codes)),
    ]);
    let restart = must(&[json!("NotRequired")], &[json!("RestartContainer"), json!("x")]);
    let resize = object(vec![
        ("resourceName", must(&[json!("cpu"), json!("memory")], &[json!("x")])),
        ("restartPolicy", restart),
    ]);
    let resize = proptest::option::of(resize.prop_map(|resize| json!([resize]))).boxed();
    let lifecycle = object(vec![
        ("postStart", hook()),
        ("preStop", hook()),
        ("stopSignal", maybe(&[Value::Null], &[json!("SIGTERM")])),
    ]);
    let lifecycle = lifecycle.prop_map(without_nulls).boxed();
    let mut fields = vec![
        ("name", must(&[json!(name)], &wrong_name)),
        ("image", must(&[json!("./a.wasm"), json!("./b.wasm")], &[json!("")])),
        ("ports", must(&[json!([{"containerPort": 80, "name": "web"}])], &[json!([{"name": "web"}])])),
        ("restartPolicy", must(policies, &[json!("x")])),
        ("restartPolicyRules", list(rule)),
        ("resizePolicy", resize),
        ("resources", resources(&[json!("0"), json!("1")], &[json!("2"), json!("64Mi")])),
        ("terminationMessagePath", maybe(&[json!(""), json!("/a/b")], &[json!("a"), json!("\u{0}")])),
        ("terminationMessagePolicy", maybe(&[json!("File"), json!("FallbackToLogsOnError")], &[json!("x")])),
    ];
    if attended {
        fields.push(("startupProbe", probe(&[json!(0), json!(1)], &[json!(5)])));
        fields.push(("livenessProbe", probe(&[json!(0), json!(1)], &[json!(5)])));
        fields.push(("readinessProbe", probe(&[json!(0), json!(9)], &[Value::Null])));
        fields.push(("lifecycle", some(lifecycle)));
    }
    object(fields).prop_map(without_nulls).boxed()
}

fn manifest() -> BoxedStrategy<Value> {
    let policies = [json!("Always"), json!("OnFailure"), json!("Never")];
    let gate = object(vec![("conditionType", must(&[json!("a/b")], &[json!("a b")]))]);
    let main = container("main", &policies, true).prop_map(|main| json!([main]));
    let init = (container("init", &policies[1..], false), container("side", &policies[..1], true));
    let init = init.prop_map(|(init, side)| json!([init, side]));
    let wrong = container("wrong", &policies, true).prop_map(|wrong| json!([wrong]));
    let init = prop_oneof![RIGHT_FOR_ONE_WRONG => init, 1 => wrong];
    let spec = object(vec![
        ("containers", needed(main.boxed())),
        ("initContainers", some(init.boxed())),
        ("resources", resources(&[json!("9")], &[json!("128Mi")])),
        ("readinessGates", list(gate)),
        ("restartPolicy", maybe(&policies, &[json!("x")])),
        ("terminationGracePeriodSeconds", number()),
        ("activeDeadlineSeconds", maybe(&[json!(1)], &[json!(0)])),
    ]);
    let pod = |spec| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec});
    spec.prop_map(pod).boxed()
}

/// Whether `path` leads to something in `document`, or to a field that its mapping lacks.
fn leads_somewhere(document: &Value, path: &str) -> bool {
    let steps: Vec<String> = path.replace(']', "").split(['.', '[']).map(str::to_owned).collect();
    let mut here = document;
    for (at, step) in steps.iter().enumerate() {
        let next = match here {
            Value::Object(fields) => fields.get(step.as_str()),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return here.is_object() && at + 1 == steps.len(),
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_combination_is_taken_or_refused_where_it_is_wrong(document in manifest()) {
        let options = Options { manifest_dir: "/srv".into(), ..Options::default() };
        let text = document.to_string();
        match spec::load(text.as_bytes(), &options) {
            // What the API server fills in is right as well, and changes nothing about what runs.
            Ok(converted) => {
                let mut pod = converted.wire.clone();
                spec::convert::complete(&mut pod);
                prop_assert_eq!(&pod, &converted.wire);
                let again = spec::convert::pod(&Manifest { pod, ..Manifest::default() }, &options);
                let again = again.map_err(|invalid| TestCaseError::fail(invalid.to_string()))?;
                prop_assert_eq!(again.pod, converted.pod);
            }
            Err(invalid) => {
                prop_assert!(!invalid.errors.is_empty());
                for FieldError { path, message } in &invalid.errors {
                    prop_assert!(leads_somewhere(&document, path), "{}: {}\n{}", path, message, text);
                }
            }
        }
    }
}

/// Else the property says little.
#[test]
fn many_combinations_are_right() {
    let options = Options { manifest_dir: "/srv".into(), ..Options::default() };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let right = (0..300).filter(|_| {
        let document = manifest().new_tree(&mut runner).unwrap().current();
        spec::load(document.to_string().as_bytes(), &options).is_ok()
    });
    let right = right.count();
    assert!((50..250).contains(&right), "{right} of 300");
}
