"""The key file: names, hashes, limits, and changes while the service runs."""

import os
import stat
from pathlib import Path

import pytest

from pad_teacher.admission import key_ring
from pad_teacher.admission.key_ring import KeyRing
from pad_teacher.admission.keys import KeyFileError, add_key, read_keys, revoke_key


def name_of(ring: KeyRing, key: str) -> str | None:
    record = ring.find(key)
    return record.name if record else None


def test_a_key_is_known_by_name_and_stored_only_as_a_hash(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "lab")
    other = add_key(tmp_path / "keys", "desk")
    ring = KeyRing(tmp_path / "keys")
    assert [name_of(ring, each) for each in (key, other, key + "x", "")] == ["lab", "desk", None, None]
    assert key not in (tmp_path / "keys").read_text()


def test_only_its_owner_can_read_the_key_file(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "lab")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_a_name_is_given_once_and_is_plain(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "lab")
    with pytest.raises(KeyFileError, match="already"):
        add_key(tmp_path / "keys", "lab")
    with pytest.raises(KeyFileError, match="letters"):
        add_key(tmp_path / "keys", "a b\n")
    assert len(read_keys(tmp_path / "keys")) == 1


def test_a_new_key_works_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    add_key(tmp_path / "keys", "lab")
    ring = KeyRing(tmp_path / "keys")
    added = add_key(tmp_path / "keys", "late")
    assert name_of(ring, added) == "late"
    (tmp_path / "keys").write_text((tmp_path / "keys").read_text() + "half a line")
    assert name_of(ring, added) == "late"


def test_a_key_taken_out_of_the_file_stops_working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if an editor has left a blank line."""
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    leaked, kept = add_key(tmp_path / "keys", "leaked"), add_key(tmp_path / "keys", "kept")
    ring = KeyRing(tmp_path / "keys")
    lines = (tmp_path / "keys").read_text().splitlines()
    (tmp_path / "keys").write_text("\n".join(["", *[line for line in lines if "leaked" not in line]]).rstrip("\n"))
    assert (name_of(ring, leaked), name_of(ring, kept)) == (None, "kept")
    assert name_of(KeyRing(tmp_path / "keys"), add_key(tmp_path / "keys", "late")) == "late"
    (tmp_path / "keys").unlink()
    assert name_of(ring, kept) is None


@pytest.mark.parametrize("bad", ["half a line", '{"name": "x"}', "\xff"])
def test_a_key_taken_out_of_a_broken_file_stops_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    leaked, kept = add_key(tmp_path / "keys", "leaked"), add_key(tmp_path / "keys", "kept")
    ring = KeyRing(tmp_path / "keys")
    lines = [line for line in (tmp_path / "keys").read_text().splitlines() if "leaked" not in line]
    (tmp_path / "keys").write_text("\n".join([bad, *lines]), encoding="latin-1")
    assert (name_of(ring, leaked), name_of(ring, kept)) == (None, "kept")
    assert ring.problem
    (tmp_path / "keys").write_text("\n".join(lines))
    assert (name_of(ring, kept), ring.problem) == ("kept", None)


def test_a_broken_key_file_is_logged_once_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    key = add_key(tmp_path / "keys", "lab")
    ring = KeyRing(tmp_path / "keys")
    (tmp_path / "keys").write_text("half a line")
    for _ in range(5):
        assert name_of(ring, key) is None
    assert capsys.readouterr().out.count("not as it should be") == 1


def test_a_file_that_was_replaced_unseen_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that mounts the single file: the old file has no name any more."""
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    key = add_key(tmp_path / "keys", "lab")
    with (tmp_path / "keys").open() as file:
        ring = KeyRing(Path(f"/proc/self/fd/{file.fileno()}"))
        assert (name_of(ring, key), ring.problem) == ("lab", None)
        revoke_key(tmp_path / "keys", "lab")
        assert name_of(ring, key) == "lab"
        assert "mount its folder" in str(ring.problem)


def test_a_revoked_key_stops_working_and_frees_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    leaked, kept = add_key(tmp_path / "keys", "leaked"), add_key(tmp_path / "keys", "kept")
    ring = KeyRing(tmp_path / "keys")
    revoke_key(tmp_path / "keys", "leaked")
    assert (name_of(ring, leaked), name_of(ring, kept)) == (None, "kept")
    with pytest.raises(KeyFileError, match="no key called leaked"):
        revoke_key(tmp_path / "keys", "leaked")
    new = add_key(tmp_path / "keys", "leaked")
    assert (name_of(ring, leaked), name_of(ring, new)) == (None, "leaked")


def test_a_key_has_limits_only_where_they_are_given(tmp_path: Path) -> None:
    old = '{"name": "old", "sha256": "' + "0" * 64 + '", "created": 1}\n'
    (tmp_path / "keys").write_text(old)
    add_key(tmp_path / "keys", "lab", weight=3, tokens_per_minute=1000, tokens_per_day=None)
    limits = [(each.weight, each.tokens_per_minute, each.tokens_per_day) for each in read_keys(tmp_path / "keys")]
    assert limits == [(1.0, None, None), (3.0, 1000, None)]
    assert "tokens_per_day" not in (tmp_path / "keys").read_text()


@pytest.mark.parametrize(
    "limits",
    [{"weight": 0.0}, {"weight": float("nan")}, {"weight": 1e9}, {"tokens_per_minute": 0}, {"tokens_per_day": -1}],
)
def test_a_limit_out_of_range_is_refused_and_not_written(tmp_path: Path, limits: dict[str, float]) -> None:
    with pytest.raises(KeyFileError, match="a key's"):
        add_key(tmp_path / "keys", "lab", **limits)
    assert not list(tmp_path.iterdir())


def test_a_change_that_fails_leaves_the_key_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(tmp_path / "keys", "lab")
    before = (tmp_path / "keys").read_text()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for change in (lambda: revoke_key(tmp_path / "keys", "lab"), lambda: add_key(tmp_path / "keys", "new")):
        with pytest.raises(KeyFileError, match="no space"):
            change()
    assert (tmp_path / "keys").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_changed_key_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "lab")
    (tmp_path / "keys").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "keys")
    add_key(tmp_path / "link", "desk")
    revoke_key(tmp_path / "link", "lab")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o640
    assert [record.name for record in read_keys(tmp_path / "keys")] == ["desk"]


@pytest.mark.parametrize("content", ["{}", "not json", '{"name": "a", "sha256": "00", "created": 1}', "\xff"])
def test_a_file_that_is_not_of_keys_is_named_with_its_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content, encoding="latin-1")
    with pytest.raises(KeyFileError, match="keys"):
        KeyRing(tmp_path / "keys")


def test_a_missing_file_is_an_error_and_not_an_open_door(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot read"):
        KeyRing(tmp_path / "nothing")


def test_keys_are_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [add_key(tmp_path / "keys", name) for name in ("first", "second", "last")]
    ring = KeyRing(tmp_path / "keys")
    compared: list[str] = []
    compare = key_ring.hmac.compare_digest

    def counted(a: str, b: str) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(key_ring.hmac, "compare_digest", counted)
    for key in (*known, "pad_nobody"):
        compared.clear()
        ring.find(key)
        assert len(compared) == 3  # whichever it is, and wherever it stands


def test_a_key_file_replaced_behind_a_mount_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that mounts the file alone goes on seeing the replaced one, which has no link any more."""
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    add_key(tmp_path / "keys", "lab")
    with (tmp_path / "keys").open() as mounted:
        ring = KeyRing(Path(f"/proc/self/fd/{mounted.fileno()}"))
        ring.find("")
        assert ring.problem is None
        add_key(tmp_path / "keys", "late")
        ring.find("")
        assert ring.problem
        assert "mount its folder, not the file" in ring.problem
