"""Files that are written whole or not at all: a reader finds the old content or the new, never a part."""

import os
import secrets
from errno import EEXIST
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o666, *, keep_owner: bool = False) -> None:
    """Write ``data`` to a new file next to ``path``, flush it to the disk and move it over ``path``.

    Args:
        path: the file to make or to replace; of a symbolic link, the file that it points to.
        data: the whole content.
        mode: permissions of the new file, reduced by the umask.
        keep_owner: give the new file the owner, the group and the mode of the file that it replaces.

    Raises:
        OSError: the file cannot be written, or what is there is no file, as a device or a pipe; it is untouched.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise FileExistsError(EEXIST, "it is no regular file", str(path))
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if keep_owner and path.exists():
                before = path.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
