"""Training runs in this process: a teacher with a fixed rule, prompts, settings, and readers of the run's files."""

from __future__ import annotations

import json
from math import exp
from typing import TYPE_CHECKING, Any

from pad_student.teacher.errors import TeacherUnreachable
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId
from support.fakes import byte_tokenizer, log_prob
from support.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import torch

    from pad_student.preference.config import PADConfig
    from pad_student.training.trainer import PADTrainer

PROMPTS = [{"id": f"p{k}", "prompt": f"say {k}"} for k in range(12)]


class RuleTeacher:
    """Scores by an arithmetic rule; unreachable after ``patience`` sets."""

    def __init__(self, patience: int = 10**9) -> None:
        self.scored: list[str] = []
        self.patience = patience

    def score_stream(self, sets: Iterable[SampledSet], **_: Any) -> Iterator[ScoredSet]:
        for each in sets:
            if len(self.scored) >= self.patience:
                raise TeacherUnreachable("the teacher is away")
            self.scored.append(each.id)
            yield scored(each)


def scored(each: SampledSet) -> ScoredSet:
    values = [log_prob([len(str(each.prompt))], sum(r.text.encode())) - 1 for r in each.responses]
    responses = [
        ScoredResponse(
            **response.model_dump(),
            log_likelihood=5 * value,
            tokens=5,
            mean_log_likelihood=value,
            selection_probability=exp(values[k]) / sum(map(exp, values)),
        )
        for k, (response, value) in enumerate(zip(each.responses, values, strict=True))
    ]
    return ScoredSet(id=each.id, prompt=each.prompt, responses=responses, label_mass=0.9, teacher=TEACHER)


TEACHER = TeacherId(model="fake", fingerprint="f")


def config(folder: Path, **changes: Any) -> PADConfig:
    from pad_student.preference.config import PADConfig

    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 3,
        "max_response_tokens": 5,
        "learning_rate": 1e-3,
        "save_steps": 2,
        "keep_rounds": "all",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return PADConfig(**settings | changes)


def trainer(folder: Path, teacher: Any = None, dataset: Any = None, **changes: Any) -> PADTrainer:
    from pad_student.training.trainer import PADTrainer

    return PADTrainer(tiny_model(), config(folder, **changes), dataset or PROMPTS, byte_tokenizer(), teacher)


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = {"epoch", "total_flos"}
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def round_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "rounds").iterdir() if path.is_dir())


def weights(trainer: PADTrainer) -> torch.Tensor:
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


class Narrow(RuleTeacher):
    """Skips the sets of one prompt, as the client does if they exceed the service's context."""

    def score_stream(self, sets: Iterable[SampledSet], refusals: Any = None, **_: Any) -> Iterator[ScoredSet]:
        assert refusals
        return super().score_stream(each for each in sets if not each.id.startswith("p3@"))


def scored_sets(n: int = 4, count: int = 12) -> list[ScoredSet]:
    return [
        scored(SampledSet(id=f"s{k}", prompt=f"say {k}", responses=[f"{k}{'ab'[j % 2]}{j}" for j in range(n)]))
        for k in range(count)
    ]
