"""The process of ``pad-teacher serve``: uvicorn around the application, and the exit status."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NoReturn, cast

import structlog
import uvicorn

from pad_teacher.api.app import create_app
from pad_teacher.api.connections import BoundedProtocol, ConnectionLimits, Connections, ServingLoop
from pad_teacher.api.draining_server import DrainingServer
from pad_teacher.runtime import logs
from pad_teacher.runtime.addresses import authority
from pad_teacher.runtime.garbage import freeze_loaded_objects
from pad_teacher.runtime.open_files import room_for
from pad_teacher.scoring.load import load
from pad_teacher.scoring.teacher import AnyTeacher
from pad_teacher.serve.banner import banner
from pad_teacher.serve.preflight import cannot_listen, check_access, check_certificate, check_device
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings

log = structlog.get_logger()

# A busy thread keeps the interpreter for this long while other threads wait. With Python's own 5 ms, the event loop
# would wait that long for the threads that tokenise and that run the engine, again and again.
SWITCH_SECONDS = 0.0005

MAX_HEADER_BYTES = 32 * 1024

# A client that vanished without a word is noticed within two minutes, also while it waits for its reply.
KEEPALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 4,
}


def serve(settings: ServeSettings) -> int:
    """Serve one teacher until SIGTERM, SIGINT or SIGHUP.

    Returns:
        0 after one of these signals, 1 if the teacher could not be loaded or failed.

    Raises:
        BadSettings: if the service would be open to others without keys, the port is taken, HTTPS lacks a file, or
            there is no such device.
        KeyFileError: if the key file cannot be read.
        UsageFileError: if usage cannot be kept in the data directory.
    """
    check_access(settings)
    check_device(settings.device)
    logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    room = room_for(settings.max_connections)
    settings = settings.model_copy(update={"max_connections": room.connections})
    service = Service(settings, lambda: _load(settings))
    connections = Connections(
        ConnectionLimits(settings.max_connections, settings.headers_seconds, settings.reply_seconds)
    )
    server = server_for(service, connections, room.backlog)
    with listen(settings) as listener:
        scheme = "https" if server.config.is_ssl else "http"
        announce(settings, f"{scheme}://{authority(settings.host, listener.getsockname()[1])}")
        run(server, service, listener, lambda: ServingLoop(connections, settings.headers_seconds))
    return _exit_status(service)


def announce(settings: ServeSettings, url: str) -> None:
    """Say where the service is: on a terminal by a banner too, unless it logs warnings and errors alone."""
    if logs.is_for_people() and settings.log_level in ("debug", "info"):
        print(banner(settings, url), file=sys.stderr)
    log.info("listening", url=url)


def server_for(service: Service, connections: Connections, backlog: int) -> DrainingServer:
    """The HTTP or HTTPS server of ``service``, with its certificate read.

    ``backlog`` connections are accepted in one step.

    Raises:
        BadSettings: if HTTPS lacks a file, or its files are not a matching pair.
        KeyFileError: if the key file cannot be read.
    """
    settings = service.settings
    check_certificate(settings)
    config = uvicorn.Config(
        create_app(service),
        http=cast(Any, partial(BoundedProtocol, connections)),  # by h11: httptools takes headers of any size
        ws="none",
        backlog=backlog,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_ciphers="ECDHE+AESGCM:ECDHE+CHACHA20",  # for TLS 1.2, with forward secrecy; uvicorn's own list is older
    )
    config.load()
    return DrainingServer(config, service)


def listen(settings: ServeSettings) -> socket.socket:
    """A socket bound to the host and port of the settings.

    Raises:
        BadSettings: if the port is taken or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named so that asyncio turns Nagle's algorithm off: otherwise a reply waits 40 ms for the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option, value in KEEPALIVE.items():  # every connection inherits them
        listener.setsockopt(*option, value)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):  # on Linux, silent connections stay with the kernel, for about so long
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, max(1, int(settings.headers_seconds)))
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise cannot_listen(settings, error) from None
    return listener


def run(
    server: DrainingServer,
    service: Service,
    listener: socket.socket,
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Serve on ``listener`` until a signal stops ``server`` or ``service`` fails.

    uvicorn takes SIGTERM and SIGINT over while it serves. Before and after that there is nothing to finish.
    """

    def leave(_: int, __: FrameType | None) -> None:
        _leave(service)

    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup asks to outlive the terminal
        signal.signal(signal.SIGHUP, server.handle_exit)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_run(server, service, listener))


async def _run(server: DrainingServer, service: Service, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    # The weights that are read, or the batch that runs, may take minutes and cannot be interrupted.
    if service.loading or server.force_exit:
        _leave(service)


def _leave(service: Service) -> NoReturn:
    """End the process without waiting for its threads."""
    for child in multiprocessing.active_children():  # a runtime's own processes, which would go on
        child.kill()
    logging.shutdown()
    os._exit(_exit_status(service))


def _exit_status(service: Service) -> int:
    if service.status == "failed":
        print(f"pad-teacher: {service.failure}", file=sys.stderr)
        return 1
    return 0


def _load(settings: ServeSettings) -> AnyTeacher:
    teacher = load(settings)
    freeze_loaded_objects()
    return teacher
