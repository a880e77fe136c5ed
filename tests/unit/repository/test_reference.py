"""The committed pages of docs/reference/ are those that the code makes."""

import pytest

from support.paths import ROOT

REFERENCE = ROOT / "docs" / "reference"


def test_the_reference_is_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of settings, routes or public docstrings: python docs/make_reference.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_reference

    made = make_reference.pages()
    assert {path.name for path in REFERENCE.iterdir()} == set(made)
    for name, text in made.items():
        assert (REFERENCE / name).read_text() == text, f"{name} is out of date: python docs/make_reference.py"
