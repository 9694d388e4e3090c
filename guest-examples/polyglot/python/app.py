"""A web server with Python's standard library: `python PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"hello from Python {sys.version.split()[0]}, {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # There are no threads: one connection at a time, so none is kept for later.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_request(self, code="-", size="-") -> None:
        """A line for each request would be most of the work."""


class Server(HTTPServer):
    request_queue_size = 128

    def get_request(self):
        # WASI has no signals: accept fails when the pod stops. socketserver would try again.
        try:
            return super().get_request()
        except OSError as error:
            raise SystemExit(0) from error


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8081
    print(f"http.server listens on port {port}")
    Server(("0.0.0.0", port), Handler).serve_forever()
