"""``pad-student report`` and the model card next to its page."""

import json
from pathlib import Path

import pytest

from pad_student.commands.report import run, write_after
from pad_student.commands.settings import ReportSettings
from pad_student.evaluation.report.card import model_card
from pad_student.evaluation.report.collect import collect
from support.fake_run import fake_run


def test_a_card_is_written_anew_until_somebody_changes_it(tmp_path: Path) -> None:
    folder, settings = fake_run(tmp_path), ReportSettings(run=tmp_path)
    card = folder / "README.md"
    run(settings)
    assert not card.exists(), "only a run's end puts one there"
    write_after(folder)
    (folder / "grade").mkdir()
    (folder / "grade" / "result.json").write_text(json.dumps({"gold_score": 0.5, "n": 3}))
    run(settings)
    assert "gold score" in card.read_text()
    for change in (("A student of", "My student of"), ("-->\n", "-->\nMore of mine.\n")):
        changed = card.read_text().replace(*change)
        card.write_text(changed)
        run(settings)
        assert card.read_text() == changed
        write_after(folder)


@pytest.mark.parametrize(
    ("method", "says", "tag"),
    [
        ("pad", "to rank its own responses", "preference-aligned-distillation"),
        ("dckd", "by DCKD", "dckd"),
        ("adpa", "and of the model that it was aligned from", "adpa"),
    ],
)
def test_a_card_tells_the_method_that_trained(tmp_path: Path, method: str, says: str, tag: str) -> None:
    folder = fake_run(tmp_path)
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(settings | {"method": method}))
    card = model_card(collect(folder))
    assert says in card.text
    assert ("Preference-Aligned" in card.text) == (method == "pad")
    assert tag in (card.data.tags or [])
