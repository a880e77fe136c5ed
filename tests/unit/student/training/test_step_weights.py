"""Each prompt of a step weighs the same, however the step is cut into micro-batches: against an own gradient."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pad_student.errors import NothingSampled
from pad_student.model.distributed.step_weights import StepPlan
from pad_student.preference.losses import LOSSES
from pad_student.storage import jsonl
from pad_student.training import trainer
from pad_student.training.trainer import PADTrainer
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.student_runs import PROMPTS, RuleTeacher, config, metrics, scored_sets
from support.tiny import tiny_model

ENCODER = ChatEncoder.of(byte_tokenizer())
PLAIN = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 1}


class Refuses(RuleTeacher):
    """Leaves out the sets of some prompts."""

    def __init__(self, *prompts: int) -> None:
        super().__init__()
        self.prompts = tuple(f"p{k}@" for k in prompts)

    def score_stream(self, sets: Iterable[SampledSet], **_: Any) -> Iterator[ScoredSet]:
        return super().score_stream(each for each in sets if not each.id.startswith(self.prompts))


def flat(values: Iterable[Tensor]) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values])


def step(folder: Path, rows: Any, teacher: Any, prompts: int, of_batch: int, **how: Any) -> tuple[Tensor, Any]:
    """The gradient that one step of plain gradient descent took, and the scored sets that it learned from."""
    cut = {"per_device_train_batch_size": of_batch, "gradient_accumulation_steps": -(-prompts // of_batch)}
    model = tiny_model().double()
    before = flat(model.parameters())
    PADTrainer(model, config(folder, **{**PLAIN, **cut, **how}), rows, byte_tokenizer(), teacher).train()
    sets = list(jsonl.read(folder / "rounds/000000/scored.jsonl", ScoredSet)) if teacher else rows
    return before - flat(model.parameters()), sets


def own_gradient(sets: list[ScoredSet]) -> tuple[Tensor, float]:
    """The gradient of the mean loss over prompts and that mean, from full logits in float64, row by row."""
    model, settings = tiny_model().double(), config(Path("unused"))
    losses = []
    for each in sets:
        texts, ends = [r.text for r in each.responses], [r.finished for r in each.responses]
        means, prompt = [], ENCODER.prompt_ids(each.prompt)
        for kept, of_text in zip(each.responses, ENCODER.response_ids(texts, ends), strict=True):
            ids = kept.ids or of_text  # a student of random bytes draws few that are a text's own
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            means.append(logits.log_softmax(-1)[torch.arange(len(ids)), ids].mean())
        chosen = torch.tensor([r.selection_probability for r in each.responses], dtype=torch.float64)
        liked = torch.tensor([r.mean_log_likelihood for r in each.responses], dtype=torch.float64)
        reward = ((1 - settings.alpha) * liked + settings.alpha * chosen.log()).float()
        teacher, student = settings.beta_teacher * reward, settings.beta_student * torch.stack(means)
        losses.append(LOSSES[settings.loss](teacher[None], student[None]).squeeze())
    mean = torch.stack(losses).mean()
    return flat(torch.autograd.grad(mean, list(model.parameters()))), mean.item()


def check(folder: Path, taken: Tensor, sets: list[ScoredSet]) -> None:
    gradient, loss = own_gradient(sets)
    assert (taken - gradient).norm() / gradient.norm() < 1e-6
    assert metrics(folder)[0]["loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics(folder)[0]["loss/preference"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("of_batch", [1, 2, 3, 4, 5])
def test_a_ragged_micro_batch_gives_each_prompt_its_weight(tmp_path: Path, of_batch: int) -> None:
    check(tmp_path, *step(tmp_path, scored_sets(count=5), None, 5, of_batch))


@pytest.mark.parametrize("of_batch", [1, 2, 3, 5])
@pytest.mark.parametrize("refused", [(), (0,), (1, 3), (0, 1, 2, 4)])
def test_sets_left_out_leave_the_mean_over_the_others(tmp_path: Path, of_batch: int, refused: Any) -> None:
    taken, sets = step(tmp_path, PROMPTS[:5], Refuses(*refused), 5, of_batch)
    assert len(sets) == 5 - len(refused)
    check(tmp_path, taken, sets)


def test_gradients_that_cannot_be_rescaled_wait_for_all_scores(tmp_path: Path, monkeypatch: Any) -> None:
    opened = trainer._source_of

    def waits(*args: Any) -> Any:
        source = opened(*args)
        monkeypatch.setattr(source, "_waits_for_steps", True)
        return source

    def never(*_: Any) -> float:
        return 1.0

    monkeypatch.setattr(trainer, "_source_of", waits)
    monkeypatch.setattr(StepPlan, "rescaled", never)
    check(tmp_path, *step(tmp_path, PROMPTS[:5], Refuses(1, 3), 5, 1))


def test_a_step_without_any_scored_set_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(NothingSampled, match="no prompt of a step has a scored response"):
        step(tmp_path, PROMPTS[:3], Refuses(0, 1, 2), 3, 1)


@pytest.mark.parametrize("of_batch", [1, 2, 3, 5])
def test_metrics_are_the_same_for_every_micro_batch(tmp_path: Path, of_batch: int) -> None:
    """Sets with copies have fewer pairs than others, and one without two texts has none."""
    rows = scored_sets(count=5)
    for place, copies in ((1, 2), (3, 4)):
        first, *_ = rows[place].responses
        rest = rows[place].responses[copies:]
        rows[place] = rows[place].model_copy(update={"responses": [first] * copies + rest})
    of_run = []
    for size in (5, of_batch):
        step(tmp_path / str(len(of_run)), rows, None, 5, size)
        (line,) = metrics(tmp_path / str(len(of_run)))
        of_run.append({name: value for name, value in line.items() if name != "grad_norm"})
    assert of_run[1] == pytest.approx(of_run[0], abs=1e-6)
    assert {"agreement/pairwise", "agreement/top1", "share/copies"} <= of_run[0].keys()
