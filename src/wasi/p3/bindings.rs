//! Generated from `wit/wasi-0.3`: the traits of `wasi:sockets` 0.3 that this module implements.
#![allow(missing_docs, reason = "generated; the WIT documents it")]

wasmtime::component::bindgen!({
    path: "wit/wasi-0.3",
    world: "peapod:wasi-sockets-p3/host",
    imports: {
        "wasi:sockets/types.[method]tcp-socket.listen": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.send": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.receive": store | trappable,
        default: trappable,
    },
    trappable_error_type: {
        "wasi:sockets/types.error-code" => crate::wasi::p3::SocketError,
    },
    with: {
        "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
        "wasi:sockets/types.tcp-socket": crate::net::TcpSocket,
        "wasi:sockets/types.udp-socket": crate::net::UdpSocket,
    },
});
