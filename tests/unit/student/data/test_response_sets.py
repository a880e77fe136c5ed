"""Files of response sets: any format, no id needed, other columns kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import score
from pad_student.commands.settings import ScoreSettings
from pad_student.data.response_sets import ScoredLine, read_sets
from pad_student.errors import JsonLinesError
from pad_student.storage.jsonl import read
from pad_student.storage.stored_lines import StoredLines
from pad_student.teacher.client import Teacher
from support.fake_teacher import FakeTeacherService

# In the shape of a public preference dataset: conversations, scores, a source, and no id.
ROWS = [
    {
        "prompt": f"why {k}?",
        "chosen": [{"role": "user", "content": f"why {k}?"}, {"role": "assistant", "content": "because"}],
        "rejected": [{"role": "user", "content": f"why {k}?"}, {"role": "assistant", "content": "no"}],
        "score_chosen": 8.5,
        "source": "lab",
    }
    for k in range(3)
]


def written(folder: Path, kind: str) -> Path:
    import pandas

    path = folder / f"sets.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "parquet":
        pandas.DataFrame(ROWS).to_parquet(path)
    else:
        texts = [{**row, "chosen": "because", "rejected": "no"} for row in ROWS]
        pandas.DataFrame(texts).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_pairs_are_read_from_every_format(kind: str, tmp_path: Path) -> None:
    rows = list(read_sets(written(tmp_path, kind)))
    assert [(each.set.prompt, [r.text for r in each.set.responses]) for each in rows] == [
        (f"why {k}?", ["because", "no"]) for k in range(3)
    ]
    assert len({each.set.id for each in rows}) == 3
    assert {"source", "score_chosen"} <= rows[0].others.keys()


def test_ids_are_of_the_content_and_repeated_rows_stay(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    row = {"prompt": "p", "responses": ["a", "b"]}
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, {**row, "id": 5}, row, {**row, "note": "x"})))
    first, named, *repeated = [each.set.id for each in read_sets(path)]
    assert (named, repeated) == ("5", [f"{first}-2", f"{first}-3"])


def test_responses_in_a_cell_are_json(tmp_path: Path) -> None:
    path = tmp_path / "sets.csv"
    path.write_text('id,prompt,responses\n001,why?,"[""yes"", ""no""]"\n')
    (row,) = read_sets(path)
    assert (row.set.id, [each.text for each in row.set.responses]) == ("001", ["yes", "no"])


@pytest.mark.parametrize("row", [{"prompt": "p"}, {"responses": ["a"]}, {"prompt": "p", "responses": [1]}])
def test_a_row_that_is_no_set_is_named(row: Any, tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text(json.dumps({"prompt": "p", "responses": ["a"]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(JsonLinesError, match=r"sets\.jsonl, line 2: "):
        list(read_sets(path))


def test_scored_rows_keep_their_other_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, out = FakeTeacherService(), tmp_path / "scored.jsonl"
    monkeypatch.setattr(
        score, "connect", lambda settings, fingerprint=None: Teacher("http://t", transport=fake.transport)
    )
    settings = ScoreSettings(teacher=["http://t"], sets=written(tmp_path, "parquet"), out=out, alpha=0.8)
    score.run(settings)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["source"], line["score_chosen"]) for line in lines] == [("lab", 8.5)] * 3
    assert all(response["reward"] < 0 for line in lines for response in line["responses"])
    assert len(list(read(out, ScoredLine))) == len(StoredLines(out, ScoredLine)) == 3
    asked = len(fake.bodies)
    score.run(settings)
    assert len(fake.bodies) == asked, "a rerun asks for nothing"
    again = ScoreSettings(teacher=["http://t"], sets=out, out=tmp_path / "again.jsonl")
    score.run(again)
    assert "reward" not in (tmp_path / "again.jsonl").read_text(), "numbers of an earlier scoring are not kept"
