//! What a file is, told by its first bytes. Pure.

/// Bytes of the largest file that is taken for an image: interpreters with their libraries are some
/// 50 MiB; several times that is needed to compile them.
pub const MAX_SOURCE_BYTES: u64 = 512 << 20;

/// What a WebAssembly binary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component.
    Component,
    /// A core module.
    CoreModule,
}

/// Tells what `bytes` are (<https://webassembly.github.io/spec/core/binary/modules.html#binary-module>,
/// <https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md#component-definitions>).
///
/// # Errors
///
/// What they are instead of WebAssembly, and how to mend it.
pub fn kind(bytes: &[u8]) -> Result<Kind, String> {
    match bytes {
        [] => Err("is empty; build it again".into()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(Kind::CoreModule),
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(Kind::Component),
        [b'\0', b'a', b's', b'm', version @ ..] if version.len() >= 4 => {
            let version = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
            Err(format!("is WebAssembly of an unknown version ({version:#x}); build it with current tools"))
        }
        _ if b"\0asm".starts_with(&bytes[..bytes.len().min(4)]) => {
            Err(format!("is cut off after {} bytes; build or copy it again", bytes.len()))
        }
        _ => Err(format!("is not WebAssembly{}; name a .wasm file", guess(bytes))),
    }
}

/// What else the bytes may be, for those who named the wrong file.
fn guess(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => {
            " but a native program or compiled code (ELF): build for the target wasm32-wasip2"
        }
        [0xff, 0xd8, 0xff, ..] => " but a JPEG picture",
        [0x89, b'P', b'N', b'G', ..] => " but a PNG picture",
        [0x1f, 0x8b, ..] => " but a gzip archive",
        [b'P', b'K', 3, 4, ..] => " but a zip archive",
        [b'#', b'!', ..] => " but a script",
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") => {
            " but its text form: assemble it with `wasm-tools parse`"
        }
        _ if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() => " but text",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webassembly_is_told_by_its_preamble() {
        assert_eq!(kind(b"\0asm\x01\0\0\0"), Ok(Kind::CoreModule));
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest"), Ok(Kind::Component));
    }

    #[test]
    fn everything_else_is_named() {
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"\0as", "cut off after 3 bytes"),
            (b"\0asm\x01", "cut off after 5 bytes"),
            (b"\0asm\x0a\0\x01\0", "unknown version (0x1000a)"),
            (b"\xff\xd8\xff\xe0", "JPEG"),
            (b"\x89PNG\r\n", "PNG"),
            (b"\x7fELF", "wasm32-wasip2"),
            (b"\n (component)", "wasm-tools parse"),
            (b"apiVersion: v1", "but text"),
            (b"\xfe\xed", "not WebAssembly;"),
        ] {
            let error = kind(bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
