"""Sets of one text in a run that samples: neither scored nor trained on, counted, and sampled once more if asked."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pad_student.errors import ConfigError
from pad_student.on_policy import round_sampling
from pad_student.storage import jsonl
from pad_wire import Response, SampledSet
from support.student_runs import RuleTeacher, config, metrics, trainer, weights

SAME, OTHER = [Response(text="a")] * 4, [Response(text=text) for text in ("a", "b", "a", "c")]
LATER = {"n": 4, "max_steps": 2, "save_steps": 1}


def sampling(monkeypatch: pytest.MonkeyPatch, copies: tuple[str, ...], again: list[Response] | None = None) -> Any:
    """Sampling that gives one text to the prompts ``copies``; a second time it gives ``again``."""
    calls: list[tuple[float, list[str]]] = []

    def sample(*_: Any, keys: list[str], temperature: float, **__: Any) -> list[list[Response]]:
        calls.append((temperature, keys))
        return [again or SAME if key.endswith("+") else SAME if key.startswith(copies) else OTHER for key in keys]

    monkeypatch.setattr(round_sampling, "sample_responses", sample)
    return calls


def ids(path: Path) -> set[str]:
    return {each.id for each in jsonl.read(path, SampledSet)}


def test_a_set_of_one_text_is_neither_scored_nor_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling(monkeypatch, ("p1@", "p2@", "p3@"))
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, **LATER).train()
    sets = ids(tmp_path / "rounds/000000/sets.jsonl") | ids(tmp_path / "rounds/000001/sets.jsonl")
    assert len(sets) == 6
    assert set(teacher.scored) == {name for name in sets if not name.startswith(("p1@", "p2@", "p3@"))}
    shares = [(line["share/one_text"], line["share/copies"], line["share/refused"]) for line in metrics(tmp_path)]
    ones = [sum(name.endswith(f"@{k}") and name[:2] in ("p1", "p2", "p3") for name in sets) for k in range(2)]
    assert shares == [(pytest.approx(k / 3), pytest.approx((k * 3 + (3 - k)) / 12), 0) for k in ones]


def test_leaving_out_sets_of_one_text_changes_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling(monkeypatch, ("p1@", "p2@", "p3@", "p4@", "p5@"))
    found = []
    for rule in ("skip", "keep"):
        # With equal numbers for equal texts, such a set's gradient is 0; the first update shows it without Adam.
        one = trainer(tmp_path / rule, Fair(), one_text=rule, **LATER | {"optim": "sgd"})
        one.train()
        found.append(weights(one))
    assert torch.allclose(found[0], found[1], atol=1e-7)


def test_a_step_of_copies_alone_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling(monkeypatch, ("p",))
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, **LATER).train()
    assert not teacher.scored
    assert [line["share/one_text"] for line in metrics(tmp_path)] == [1, 1]


def test_a_set_of_one_text_is_sampled_once_more_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = sampling(monkeypatch, ("p1@", "p2@", "p3@"), again=OTHER)
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, resample_temperature=1.5, **LATER).train()
    assert len(teacher.scored) == 6
    hot = [keys for temperature, keys in calls if temperature == 1.5]
    assert {key[:3] for keys in hot for key in keys} <= {"p1@", "p2@", "p3@"}
    assert all(key.endswith("+") for keys in hot for key in keys)
    assert [line["share/one_text"] for line in metrics(tmp_path)] == [0, 0]


def test_a_continued_run_leaves_out_the_same_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling(monkeypatch, ("p1@", "p2@", "p3@", "p4@"))
    whole = trainer(tmp_path / "whole", RuleTeacher(), **LATER | {"max_steps": 3})
    whole.train()
    cut = trainer(tmp_path / "cut", RuleTeacher(patience=3), **LATER | {"max_steps": 3})
    with pytest.raises(Exception, match="away"):
        cut.train()
    second = RuleTeacher()
    cut = trainer(tmp_path / "cut", second, **LATER | {"max_steps": 3})
    cut.train(resume_from_checkpoint=any((tmp_path / "cut").glob("checkpoint-*")))
    assert torch.equal(weights(whole), weights(cut))
    assert not [name for name in second.scored if name.startswith(("p1@", "p2@", "p3@", "p4@"))]


def test_a_second_temperature_is_above_the_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resample_temperature is 0\.7: it must be above temperature"):
        config(tmp_path, resample_temperature=0.7)


class Fair(RuleTeacher):
    """Gives copies of a text equal numbers."""

    def score_stream(self, sets: Any, **options: Any) -> Any:
        for each in super().score_stream(sets, **options):
            first = {response.text: response for response in reversed(each.responses)}
            yield each.model_copy(update={"responses": [first[response.text] for response in each.responses]})
