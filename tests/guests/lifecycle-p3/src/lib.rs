//! Is asked to end and looks at it through `peapod:pod/lifecycle-async`: works beside the wait until it is, says why and
//! how long it has, finishes its work.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use wasip3::cli::stdout;
use wasip3::clocks::monotonic_clock;

wit_bindgen::generate!({
    path: "../../../wit/peapod-pod",
    world: "peapod:pod/imports-async",
});

use peapod::pod::{identity, lifecycle_async as lifecycle};

wasip3::cli::command::export!(Guest);

struct Guest;

/// Between two units of work.
const UNIT: Duration = Duration::from_millis(5);

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        assert!(lifecycle::stop().is_none(), "nobody has asked yet");
        assert!(!identity::name().is_empty() && !identity::container_name().is_empty(), "it is somebody");
        say("working".to_owned()).await;
        let mut asked = pin!(lifecycle::wait());
        let request = loop {
            let next = pin!(monotonic_clock::wait_for(UNIT.as_nanos() as u64));
            match select(asked.as_mut(), next).await {
                Either::Left((request, _)) => break request,
                Either::Right(((), _)) => {}
            }
        };
        assert!(lifecycle::stop().is_some(), "it does not go away");
        assert_eq!(lifecycle::wait().await.reason, request.reason);
        let left = request.deadline.saturating_sub(monotonic_clock::now());
        let left = Duration::from_nanos(left).as_secs_f64().ceil();
        say(format!("asked: {:?}, {left} s left", request.reason)).await;
        monotonic_clock::wait_for(UNIT.as_nanos() as u64).await;
        say("finished: true".to_owned()).await;
        Ok(())
    }
}

/// One line on standard output.
async fn say(line: String) {
    let (mut writer, reader) = wasip3::wit_stream::new();
    let written = stdout::write_via_stream(reader);
    writer.write_all(format!("{line}\n").into_bytes()).await;
    drop(writer);
    let _ = written.await;
}
