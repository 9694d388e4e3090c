//! Generated from `wit/wasi-keyvalue`: the traits of `wasi:keyvalue` that this module implements.
#![allow(missing_docs, reason = "generated; the WIT documents it")]

wasmtime::component::bindgen!({
    path: "wit/wasi-keyvalue",
    world: "wasi:keyvalue/imports",
    imports: { default: async | trappable },
    trappable_error_type: {
        "wasi:keyvalue/store.error" => crate::wasi::keyvalue::Error,
    },
    require_store_data_send: true,
    with: {
        "wasi:keyvalue/store.bucket": crate::wasi::keyvalue::Bucket,
        "wasi:keyvalue/atomics.cas": crate::wasi::keyvalue::Cas,
    },
});
