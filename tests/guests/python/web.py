"""http.server as it comes: one request after the other, the connection kept for the next."""

from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(f"python {self.path}\n".encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        # It serves one connection at a time: the next client shall not wait for this one to go.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def serve(port: int) -> int:
    server = HTTPServer(("0.0.0.0", port), Handler)
    print(f"listening on {port}", flush=True)
    try:
        server.serve_forever(poll_interval=3600)
    except OSError as error:
        print(f"accept ended: {error}")
    return 0
