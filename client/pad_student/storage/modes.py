"""File modes as the umask says: some libraries write files that their owner alone can read."""

import os
from pathlib import Path

ALL_READ_AND_WRITE = 0o666
WEIGHTS = ("*.safetensors", "*.bin")


def readable_as_umask_says(folder: Path) -> None:
    """Give the weights in ``folder`` the mode of a new file; safetensors makes them 0600."""
    umask = os.umask(0)
    os.umask(umask)
    for pattern in WEIGHTS:
        for path in folder.glob(pattern):
            if path.is_file() and not path.is_symlink() and path.stat().st_uid == os.geteuid():
                path.chmod(ALL_READ_AND_WRITE & ~umask)
