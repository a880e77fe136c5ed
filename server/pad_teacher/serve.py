"""The process: uvicorn around the application, drained on SIGTERM, and an exit status that tells how it ended."""

import asyncio
import gc
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import structlog
import uvicorn

from pad_teacher.api.app import create_app
from pad_teacher.runtime import logs
from pad_teacher.scoring.load import load
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.service import Service
from pad_teacher.settings import BadSettings, ServeSettings

log = structlog.get_logger()

# By default a busy thread keeps the interpreter for 5 ms while others ask for it: the event loop would wait that long
# for the threads that tokenise and that run the engine, again and again.
SWITCH_SECONDS = 0.0005

NEW_OBJECTS = 700  # Python's own: of these it looks at five times as many again
MOST_LOOKS = 2_000  # at those before it looks at all: millions of objects kept, in a service that is never idle


def serve(settings: ServeSettings) -> int:
    """Serve until told to stop.

    Returns:
        0 after SIGTERM or SIGINT, 1 where the teacher could not be loaded or failed.

    Raises:
        BadSettings: where the service would be open to others without keys, the port is taken, or HTTPS lacks a file.
        KeyFileError: where the key file cannot be read.
    """
    if settings.keys is None and not settings.allow_anonymous and not _is_loopback(settings.host):
        raise BadSettings(f"--host {settings.host} is open to others: give --keys FILE or --allow-anonymous")
    if settings.data:
        _make(settings.data)
    logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    service = Service(settings, lambda: stays(load(settings)))
    config = uvicorn.Config(
        create_app(service),
        http="h11",  # httptools takes headers of any size
        h11_max_incomplete_event_size=32 * 1024,
        timeout_graceful_shutdown=settings.drain_seconds,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_ciphers="ECDHE+AESGCM:ECDHE+CHACHA20",  # of TLS 1.2, with forward secrecy; uvicorn's own list is older
    )
    _load_tls(config)
    server = _Server(config, service)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: without, a reply waits 40 ms for the client.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise BadSettings(
                f"cannot listen on {where}: {error.strerror}; choose another --host or --port"
            ) from None
        scheme = "https" if config.is_ssl else "http"
        log.info("listening", url=f"{scheme}://{settings.host}:{listener.getsockname()[1]}")
        # uvicorn raises the signals it caught again once it is done: by then they have been obeyed. A second one
        # is not held up by whatever is left to do.
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, lambda caught, _: signal.signal(caught, signal.SIG_DFL))
        asyncio.run(_run(server, service, listener))
    if service.status == "failed":
        print(f"pad-teacher: {service.failure}", file=sys.stderr)
        return 1
    return 0


def stays(teacher: Teacher) -> Teacher:
    """Tell the garbage collector that all there is by now stays for good, and to look at the rest in small parts.

    While it looks no thread runs: a tenth of a second for what is loaded, or for what one large request holds, which
    never is garbage of its kind. So it looks at what is new, a few thousand objects at a time; at all that is not
    new while the service has nothing to do, or else after very many requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 5, MOST_LOOKS)
    return teacher


async def _run(server: uvicorn.Server, service: Service, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    if service.loading:
        # Told to stop while the weights are read, which can take minutes more and cannot be broken off.
        for child in multiprocessing.active_children():  # a runtime's own, which would read on by themselves
            child.kill()
        logging.shutdown()
        os._exit(0)


class _Server(uvicorn.Server):
    """uvicorn that tells the service when it begins to drain, and stops when the service has failed."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.on_failure = self._stop

    def handle_exit(self, sig: int, frame: object) -> None:
        self._service.drain()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]

    def _stop(self) -> None:
        self.should_exit = True


def _load_tls(config: uvicorn.Config) -> None:
    """Read certificate and key before the model, which may take minutes."""
    if bool(config.ssl_certfile) != bool(config.ssl_keyfile):
        raise BadSettings("HTTPS needs both --tls-certificate FILE and --tls-key FILE")
    try:
        config.load()
    except ssl.SSLError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.reason or error}: not a matching pair") from None
    except OSError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.strerror}") from None


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettings(f"--data {directory}: {error.strerror}; name a directory that can be written") from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
