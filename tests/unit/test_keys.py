import os
import stat
from pathlib import Path

import pytest

from pad_teacher import keys
from pad_teacher.keys import KeyFileError, KeyRing, add_key, read_keys


def test_a_key_is_known_by_name_and_stored_only_as_a_hash(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "lab")
    other = add_key(tmp_path / "keys", "desk")
    ring = KeyRing(tmp_path / "keys")
    assert (ring.name_of(key), ring.name_of(other), ring.name_of(key + "x"), ring.name_of("")) == (
        "lab",
        "desk",
        None,
        None,
    )
    assert key not in (tmp_path / "keys").read_text()


def test_only_its_owner_can_read_the_key_file(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "lab")
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o600


def test_a_name_is_given_once_and_is_plain(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "lab")
    with pytest.raises(KeyFileError, match="already"):
        add_key(tmp_path / "keys", "lab")
    with pytest.raises(KeyFileError, match="letters"):
        add_key(tmp_path / "keys", "a b\n")
    assert len(read_keys(tmp_path / "keys")) == 1


def test_a_new_key_works_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_RELOAD_SECONDS", 0)
    add_key(tmp_path / "keys", "lab")
    ring = KeyRing(tmp_path / "keys")
    added = add_key(tmp_path / "keys", "late")
    assert ring.name_of(added) == "late"
    (tmp_path / "keys").write_text("half a line")
    assert ring.name_of(added) == "late"


def test_a_key_taken_out_of_the_file_stops_working_even_with_a_blank_line_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_RELOAD_SECONDS", 0)
    leaked, kept = add_key(tmp_path / "keys", "leaked"), add_key(tmp_path / "keys", "kept")
    ring = KeyRing(tmp_path / "keys")
    lines = (tmp_path / "keys").read_text().splitlines()
    (tmp_path / "keys").write_text("\n".join(["", *[line for line in lines if "leaked" not in line]]).rstrip("\n"))
    assert (ring.name_of(leaked), ring.name_of(kept)) == (None, "kept")
    assert KeyRing(tmp_path / "keys").name_of(add_key(tmp_path / "keys", "late")) == "late"
    (tmp_path / "keys").unlink()
    assert ring.name_of(kept) is None


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
    ring, compared = KeyRing(tmp_path / "keys"), []
    compare = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))
    for key in (*known, "pad_nobody"):
        compared.clear()
        ring.name_of(key)
        assert len(compared) == 3  # whichever it is, and wherever it stands
