//! Generated from `wit/peapod-ipc`.
#![allow(missing_docs)]

#[cfg(not(feature = "async"))]
wit_bindgen::generate!({
    path: "../../../wit/peapod-ipc",
    world: "imports",
    generate_all,
});

#[cfg(feature = "async")]
wit_bindgen::generate!({
    path: "../../../wit/peapod-ipc",
    world: "imports-async",
    generate_all,
});
