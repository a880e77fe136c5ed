"""Files written whole or not at all."""

import os
from pathlib import Path

import pytest

from pad_wire.atomic import write_atomically


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_device_or_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is no regular file"):
        write_atomically(pipe, b"one")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_new_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    umask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "keys", b"one", mode)
        write_atomically(tmp_path / "sets", b"one")
    finally:
        os.umask(umask)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == mode
    assert (tmp_path / "sets").stat().st_mode & 0o777 == 0o644


def test_a_replaced_file_keeps_its_mode_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch()
    path.chmod(0o664)
    write_atomically(path, b"one", 0o600, keep_owner=True)
    assert path.stat().st_mode & 0o777 == 0o664
    write_atomically(path, b"two", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left")

    path = tmp_path / "keys"
    write_atomically(path, b"one")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_link_still_points_to_the_written_file(tmp_path: Path) -> None:
    path, link = tmp_path / "keys", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    write_atomically(link, b"one")
    assert link.is_symlink()
    assert path.read_bytes() == b"one"
