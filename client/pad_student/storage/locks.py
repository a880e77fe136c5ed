"""Exclusive claims on outputs: of two writers into one file or directory, the second ends with one line."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

import orjson

from pad_student.errors import InUse

FILE = "_lock"  # uploads to the Hub leave out names that begin so


def claim(descriptor: int, path: Path) -> None:
    """Take the lock of an open file until it is closed; the system also ends it with the process.

    Raises:
        InUse: another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(
            f"another pad-student{_holder(path)} writes {path}; wait for it, or give another output"
        ) from None
    except OSError:
        return  # a file system without locks


class DirectoryClaim:
    """Claims an output directory for the length of a block.

    Args:
        folder: is made if it is missing.

    Raises:
        InUse: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            claim(self._file, folder)
        except BaseException:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, orjson.dumps({"process": os.getpid(), "host": socket.gethostname()}), 0)

    def __enter__(self) -> "DirectoryClaim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def _holder(path: Path) -> str:
    """The process that has the lock, in brackets; empty if that is not known."""
    try:
        if path.is_dir():
            found = orjson.loads((path / FILE).read_bytes())
            return f" (process {found['process']} on {found['host']})"
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, place, *_ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == inode:
                return f" (process {process})"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""
