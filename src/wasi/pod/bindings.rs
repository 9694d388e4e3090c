//! Generated from `wit/peapod-pod`: the traits of `peapod:pod` that this module implements.
#![allow(missing_docs, reason = "generated; the WIT documents it")]

wasmtime::component::bindgen!({
    path: "wit/peapod-pod",
    inline: "
        package peapod:pod-host;
        world host {
            import peapod:pod/lifecycle@0.1.1;
            import peapod:pod/lifecycle-async@0.1.1;
            import peapod:pod/identity@0.1.1;
        }
    ",
    world: "peapod:pod-host/host",
    imports: { default: trappable },
    require_store_data_send: true,
    with: { "wasi:io": wasmtime_wasi_io::bindings::wasi::io },
});
