"""What can be checked within a second, before torch is imported and before the service listens."""

import os
import re
import socket
import ssl
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pad_teacher.admission.keys import read_keys
from pad_teacher.errors import CannotServe
from pad_teacher.runtime.addresses import authority, is_loopback
from pad_teacher.settings import BadSettings, ServeSettings
from pad_torch.hub_names import why_unreachable
from pad_wire.model_names import is_directory, is_missing_directory, why_unreadable

DEVICE = re.compile(r"auto|cpu|(cuda|xpu|npu|mps|hpu|mlu)(:\d+)?")
FILES = ("chat_template", "question")
UPSTREAM_PACKAGES = ("openai", "scipy")
PACKAGES = ("torch", "transformers", "fastapi", "uvicorn", "structlog", "prometheus_client", "cachetools")


def check_first(settings: ServeSettings) -> None:
    """Check access, files, port, engine and model, and make the data directory.

    Raises:
        BadSettings: a setting that cannot be used.
        KeyFileError: the key file cannot be read.
        CannotServe: the model or the reference is not there, or its files cannot be read.
        ModuleNotFoundError: a package is missing.
    """
    check_installed()
    check_access(settings)
    for name in FILES:
        if (path := getattr(settings, name)) is not None:
            _check_file(f"--{name.replace('_', '-')}", path)
    check_certificate(settings)
    if settings.keys is not None:
        read_keys(settings.keys)
    if not DEVICE.fullmatch(settings.device):
        raise BadSettings(f"--device {settings.device} is no device; give auto, cpu, cuda or cuda:1")
    if settings.engine == "vllm" and find_spec("vllm") is None:
        raise BadSettings("--engine vllm needs vllm: pip install 'pad-service[server,vllm]'")
    _check_port(settings)
    if settings.engine == "openai":
        check_upstream(settings)
        return
    _check_model(settings.model, settings.revision)
    if settings.reference is not None:
        _check_model(settings.reference, settings.reference_revision)


def check_installed() -> None:
    """Find the service's packages, and import none.

    Raises:
        ModuleNotFoundError: naming the first that is missing.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def check_access(settings: ServeSettings) -> None:
    """Check who could reach the service, and make the data directory.

    Raises:
        BadSettings: if the service would be open to others without keys, or the directory cannot be made.
    """
    if settings.keys is None and not settings.allow_anonymous and not is_loopback(settings.host):
        raise BadSettings(f"--host {settings.host} is open to others: give --keys FILE or --allow-anonymous")
    if settings.data:
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "name a directory that can be written"
            raise BadSettings(f"--data {settings.data}: {error.strerror}; {remedy}") from None
        if not os.access(settings.data, os.W_OK):
            raise BadSettings(f"--data {settings.data} cannot be written; name another directory")


def check_certificate(settings: ServeSettings) -> None:
    """Read the certificate of HTTPS and its key, if there are any.

    Raises:
        BadSettings: if one of the two is missing or cannot be read, or they are not a matching pair.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if bool(certificate) != bool(key):
        raise BadSettings("HTTPS needs both --tls-certificate FILE and --tls-key FILE")
    if certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")  # never asks
    except ssl.SSLError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.reason or error}: not a matching pair") from None
    except OSError as error:
        raise BadSettings(f"--tls-certificate, --tls-key: {error.strerror}") from None


def check_upstream(settings: ServeSettings) -> None:
    """Check the packages, the address and the key file of a model behind an API; nothing is asked yet.

    Raises:
        BadSettings: if one of them cannot be used; the message repeats no key.
    """
    if any(find_spec(package) is None for package in UPSTREAM_PACKAGES):
        raise BadSettings("--engine openai needs openai and scipy: pip install 'pad-service[server,openai]'")
    try:
        url = urlsplit(settings.upstream or "")
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        url, usable = urlsplit(""), False
    if not usable:
        raise BadSettings("--upstream must look like https://api.openai.com/v1")
    if url.username or url.password or url.query or url.fragment:
        raise BadSettings(
            "--upstream must have no user, password, query or fragment: --upstream-key-file has the key"
        )
    if (path := settings.upstream_key_file) is not None:
        _check_file("--upstream-key-file", path)


def check_device(name: str) -> None:
    """Check that torch has the device.

    Raises:
        BadSettings: naming the devices that there are.
    """
    kind, _, number = name.partition(":")
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            there = f"cuda:0 to cuda:{count - 1}" if count else "no GPU that torch can use; give --device cpu"
            raise BadSettings(f"--device {name}: there is {there}")


def _check_file(flag: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise BadSettings(f"{flag} {path}: {error.strerror}") from None


def _check_port(settings: ServeSettings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((settings.host, settings.port))
        except OSError as error:
            raise cannot_listen(settings, error) from None


def cannot_listen(settings: ServeSettings, error: OSError) -> BadSettings:
    """That the service's address cannot be had, and why."""
    where = authority(settings.host, settings.port)
    return BadSettings(f"cannot listen on {where}: {error.strerror}; choose another --host or --port")


def _check_model(name: str, revision: str | None) -> None:
    if is_missing_directory(name):
        raise CannotServe(f"{name}: no such model directory")
    if name.endswith(".gguf"):
        return  # loading it says how to convert it
    problem = why_unreadable(Path(name)) if is_directory(name) else why_unreachable(name, revision=revision)
    if problem:
        raise CannotServe(problem)
