//! Generated from `wit/peapod-ipc`: the traits of `peapod:ipc` that this module implements.
#![allow(missing_docs, reason = "generated; the WIT documents it")]

wasmtime::component::bindgen!({
    path: "wit/peapod-ipc",
    world: "peapod:ipc/imports-async",
    imports: {
        "peapod:ipc/message-queue.[method]queue.send": async | trappable,
        "peapod:ipc/message-queue.[method]queue.receive": async | trappable,
        "peapod:ipc/shared-memory.[static]segment.open": async | trappable,
        "peapod:ipc/shared-memory.[method]segment.resize": async | trappable,
        "peapod:ipc/shared-memory.[method]segment.wait": async | trappable,
        "peapod:ipc/semaphore.[method]semaphore.acquire": async | trappable,
        "peapod:ipc/channel.[method]sender.send": async | trappable,
        "peapod:ipc/channel.[method]receiver.receive": async | trappable,
        "peapod:ipc/channel-async.send-bytes": store | trappable,
        "peapod:ipc/channel-async.receive-bytes": store | trappable,
        default: trappable,
    },
    trappable_error_type: {
        "peapod:ipc/types.errno" => crate::wasi::ipc::Error,
    },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
        "peapod:ipc/message-queue.queue": crate::ipc::Queue,
        "peapod:ipc/shared-memory.segment": crate::ipc::Segment,
        "peapod:ipc/semaphore.semaphore": crate::ipc::Semaphore,
        "peapod:ipc/channel.sender": crate::ipc::Sender,
        "peapod:ipc/channel.receiver": crate::ipc::Receiver,
    },
});
