"""The process of ``pad-teacher serve``: uvicorn around the application, and the exit status."""

import asyncio
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys

import structlog
import uvicorn

from pad_teacher.api.app import create_app
from pad_teacher.runtime import logs
from pad_teacher.runtime.garbage import freeze_loaded_objects
from pad_teacher.scoring.load import load
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.service import Service
from pad_teacher.settings import BadSettings, ServeSettings

log = structlog.get_logger()

# A busy thread keeps the interpreter for this long while other threads wait. With Python's own 5 ms, the event loop
# would wait that long for the threads that tokenise and that run the engine, again and again.
SWITCH_SECONDS = 0.0005

MAX_HEADER_BYTES = 32 * 1024


def serve(settings: ServeSettings) -> int:
    """Serve one teacher until SIGTERM or SIGINT.

    Returns:
        0 after one of these signals, 1 if the teacher could not be loaded or failed.

    Raises:
        BadSettings: if the service would be open to others without keys, the port is taken, or HTTPS lacks a file.
        KeyFileError: if the key file cannot be read.
        UsageFileError: if usage cannot be kept in the data directory.
    """
    check(settings)
    logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    service = Service(settings, lambda: _load(settings))
    server = server_for(service)
    with listen(settings) as listener:
        scheme = "https" if server.config.is_ssl else "http"
        log.info("listening", url=f"{scheme}://{settings.host}:{listener.getsockname()[1]}")
        run(server, service, listener)
    if service.status == "failed":
        print(f"pad-teacher: {service.failure}", file=sys.stderr)
        return 1
    return 0


def check(settings: ServeSettings) -> None:
    """Check what can be checked before anything is loaded, and make the data directory.

    Raises:
        BadSettings: if the service would be open to others without keys, or the directory cannot be made.
    """
    if settings.keys is None and not settings.allow_anonymous and not _is_loopback(settings.host):
        raise BadSettings(f"--host {settings.host} is open to others: give --keys FILE or --allow-anonymous")
    if settings.data:
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "name a directory that can be written"
            raise BadSettings(f"--data {settings.data}: {error.strerror}; {remedy}") from None


def server_for(service: Service) -> uvicorn.Server:
    """The HTTP or HTTPS server of ``service``. It reads the certificate now, before the model is loaded.

    Raises:
        BadSettings: if HTTPS lacks a file, or its files are not a matching pair.
        KeyFileError: if the key file cannot be read.
    """
    settings = service.settings
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise BadSettings("HTTPS needs both --tls-certificate FILE and --tls-key FILE")
    config = uvicorn.Config(
        create_app(service),
        http="h11",  # httptools takes headers of any size
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=settings.drain_seconds,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_ciphers="ECDHE+AESGCM:ECDHE+CHACHA20",  # for TLS 1.2, with forward secrecy; uvicorn's own list is older
    )
    try:
        config.load()
    except ssl.SSLError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.reason or error}: not a matching pair") from None
    except OSError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.strerror}") from None
    return _Server(config, service)


def listen(settings: ServeSettings) -> socket.socket:
    """A socket bound to the host and port of the settings.

    Raises:
        BadSettings: if the port is taken or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named so that asyncio turns Nagle's algorithm off: otherwise a reply waits 40 ms for the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise BadSettings(f"cannot listen on {where}: {error.strerror}; choose another --host or --port") from None
    return listener


def run(server: uvicorn.Server, service: Service, listener: socket.socket) -> None:
    """Serve on ``listener`` until a signal stops ``server`` or ``service`` fails."""
    # When it is done, uvicorn raises the signals it caught once more. They have been obeyed by then, so the first of
    # each does nothing; a second one ends the process even if something is left to do.
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda caught, _: signal.signal(caught, signal.SIG_DFL))
    asyncio.run(_run(server, service, listener))


async def _run(server: uvicorn.Server, service: Service, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    if service.loading:
        # The process was told to stop while the weights are read. Reading takes minutes and cannot be interrupted.
        for child in multiprocessing.active_children():  # a runtime's own processes, which would go on reading
            child.kill()
        logging.shutdown()
        os._exit(0)


def _load(settings: ServeSettings) -> Teacher:
    teacher = load(settings)
    freeze_loaded_objects()
    return teacher


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


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
