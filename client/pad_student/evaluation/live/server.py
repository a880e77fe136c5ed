"""A small read-only server for the page of runs: a list of fixed files, and the runs of one folder."""

import socket
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any, cast

from pad_pages import FILES
from pad_student.evaluation.live.folder import RunFolder

# Nothing but this server's own files: no other host, no script or style within a page, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html", "svg": "image/svg+xml"}
REPORT, RUNS = "pad_student.evaluation.report", "pad_student.evaluation.live"
SHARED = "pad_pages"
PAGES = {
    "/": (RUNS, "runs.html"),
    "/assets/icon.svg": (RUNS, "icon.svg"),
    "/assets/runs.css": (RUNS, "runs.css"),
    "/assets/runs.js": (RUNS, "runs.js"),
    "/assets/samples.js": (RUNS, "samples.js"),
    "/assets/page.css": (REPORT, "page.css"),
    **{f"/assets/{name}": (SHARED, name) for name in FILES},
}
SILENT_SECONDS = 60.0  # of a connection, until it is closed
HERE = ("localhost", "127.0.0.1", "::1")


class RunsServer(ThreadingHTTPServer):
    """Listens from the start; ``serve_forever`` answers.

    Args:
        runs: to show.
        host: an address or a name of this machine.
        port: 0 for a free one.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """

    daemon_threads = True

    def __init__(self, runs: RunFolder, host: str, port: int) -> None:
        self.runs = runs
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Another site's name may be made to mean this machine; such a request is refused if only we can ask.
        self.names = (*HERE, host) if ip_address(address[0]).is_loopback else None
        self._host = host
        super().__init__((str(address[0]), port), _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the machine's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: the page asks again."""

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pad-student", ""
    timeout = SILENT_SECONDS

    @property
    def _runs_server(self) -> RunsServer:
        return cast(RunsServer, self.server)  # no other server makes this handler

    def do_GET(self) -> None:
        if not self._is_for_us():
            return self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"This host is not served here.\n", "text/plain")
        path = self.path.partition("?")[0]
        if path in PAGES:
            return self._answer(
                HTTPStatus.OK, content(path), TYPES[path.rpartition(".")[2]] if path != "/" else TYPES["html"]
            )
        if path == "/api/runs":
            return self._answer(HTTPStatus.OK, self._runs_server.runs.listed(), "application/json")
        run = self._runs_server.runs.whole(path.removeprefix("/api/runs/")) if path.startswith("/api/runs/") else None
        if run is None:
            return self._answer(HTTPStatus.NOT_FOUND, b"Nothing is here.\n", "text/plain")
        return self._answer(HTTPStatus.OK, run, "application/json")

    do_HEAD = do_GET

    def _is_for_us(self) -> bool:
        host = self.headers.get("Host", "")
        name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        return self._runs_server.names is None or name.lower() in self._runs_server.names

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self._end(body, kind)

    def _end(self, body: bytes, kind: str) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request for a page, as one of another method, in one plain line."""
        self.close_connection = True  # a body may follow, which is not read
        self.send_response(code, message)
        self.send_header("Connection", "close")
        self._end(b"This server answers GET and HEAD alone.\n", "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request: a page asks every second."""


@cache
def content(path: str) -> bytes:
    """One of the page's files."""
    package, name = PAGES[path]
    return (files(package) / name).read_bytes()
