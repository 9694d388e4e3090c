//! Standard output and error as WASI 0.3 streams.

use wasip3::cli::types::ErrorCode;
use wasip3::cli::{stderr, stdout};
use wasip3::wit_bindgen::{FutureReader, StreamWriter};
use wasip3::wit_stream;

/// One stream to standard output, open for the whole run.
pub struct Stdout {
    bytes: StreamWriter<u8>,
    done: FutureReader<Result<(), ErrorCode>>,
}

impl Stdout {
    /// Opens the stream.
    pub fn open() -> Stdout {
        let (bytes, reader) = wit_stream::new();
        Stdout { bytes, done: stdout::write_via_stream(reader) }
    }

    /// Writes a line; what the host does not take is lost, as with a closed pipe.
    pub async fn line(&mut self, text: &str) {
        self.bytes.write_all(format!("{text}\n").into_bytes()).await;
    }

    /// Closes the stream and waits until the host has taken everything.
    pub async fn close(self) {
        drop(self.bytes);
        let _ = self.done.await;
    }
}

/// Writes text to standard error.
pub async fn complain(text: &str) {
    let (mut bytes, reader) = wit_stream::new();
    let done = stderr::write_via_stream(reader);
    bytes.write_all(text.as_bytes().to_vec()).await;
    drop(bytes);
    let _ = done.await;
}
