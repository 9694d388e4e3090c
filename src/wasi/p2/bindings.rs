//! Generated from `wit/wasi-0.2`: the traits of `wasi:sockets` 0.2 that this module implements.
#![allow(missing_docs, reason = "generated; the WIT documents it")]

wasmtime::component::bindgen!({
    path: "wit/wasi-0.2",
    world: "peapod:wasi-sockets-p2/host",
    imports: { default: trappable },
    trappable_error_type: {
        "wasi:sockets/network.error-code" => crate::wasi::p2::SocketError,
    },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:sockets/network.network": crate::wasi::p2::Network,
        "wasi:sockets/tcp.tcp-socket": crate::wasi::p2::TcpSocket,
        "wasi:sockets/udp.udp-socket": crate::wasi::p2::UdpSocket,
        "wasi:sockets/udp.incoming-datagram-stream": crate::wasi::p2::IncomingDatagramStream,
        "wasi:sockets/udp.outgoing-datagram-stream": crate::wasi::p2::OutgoingDatagramStream,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::wasi::p2::ResolveAddressStream,
    },
});
