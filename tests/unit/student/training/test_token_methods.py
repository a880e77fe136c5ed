"""DCKD and ADPA through the trainer: the loss it takes, what moves the student, and runs that go on exactly."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pad_student.errors import ConfigError, DatasetError
from pad_student.model.logprobs import response_log_likelihoods
from pad_student.storage.token_tables import TokenTable, decoded, encoded
from pad_student.training.prepare import check_teacher
from pad_student.training.token_batches import empty_token_batch, token_batch_of
from pad_student.training.token_loss import TokenMethod
from pad_wire import Limits, ModelCard, Response, SampledSet, ScoredSet, TeacherId
from pad_wire.chat import ChatEncoder
from pad_wire.tokenizer_digest import tokenizer_digest
from support.fake_teacher import LIMITS
from support.fakes import byte_tokenizer
from support.student_runs import config, metrics, trainer
from support.tiny import tiny_model
from support.tiny_student import tiny_tokenizer
from support.token_teacher import PAIRS, TokenTeacher

torch.set_num_threads(1)

ENCODER = ChatEncoder.of(byte_tokenizer())


def sets(teacher: TokenTeacher, *, answer: str | None = None) -> list[ScoredSet]:
    pairs = [
        SampledSet(
            id=f"{k}", prompt=f"say {k}", responses=[Response(text="yes"), Response(text="no!")], answer=answer
        )
        for k in range(3)
    ]
    return list(teacher.score_stream(pairs))


def loss_of(folder: Path, method: str, scored: list[ScoredSet], model: Any, **changes: Any) -> Any:
    made = TokenMethod(config(folder, method=method, n=2, **changes), ENCODER)
    batch = made.batch(scored)
    return made.loss(batch, made.student(model, batch, False))


def full(model: Any, prompt: str, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [tokens, vocabulary], and those of the tokens themselves, in float64."""
    before, (ids,) = ENCODER.prompt_ids(prompt), ENCODER.response_ids([text], [True])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + ids])).logits[0, len(before) - 1 : -1]
    log_probs = logits.double().log_softmax(-1)
    return log_probs, log_probs.gather(-1, torch.tensor(ids)[:, None])[:, 0]


def test_dckds_loss_is_that_of_full_distributions(tmp_path: Path) -> None:
    """With all but one of the tokens named, the bins are the vocabulary."""
    student, aligned = tiny_model(seed=0), tiny_model(seed=1)
    made = loss_of(tmp_path, "dckd", sets(TokenTeacher(top=261)), student)
    expected = []
    for k in range(3):
        value = 0.0
        for text, weight in (("yes", 1.0), ("no!", 0.0)):
            ours, own = full(student, f"say {k}", text)
            theirs, _ = full(aligned, f"say {k}", text)
            value += -weight * own.mean().item() + 0.1 * (theirs.exp() * (theirs - ours)).sum(-1).mean().item()
        expected.append(value)
    assert made.loss.item() == pytest.approx(sum(expected) / 3, abs=1e-5)
    assert made.metrics["kl/chosen"] > 0


def test_adpas_loss_is_that_of_full_distributions(tmp_path: Path) -> None:
    student, aligned, before = (tiny_model(seed=seed) for seed in (0, 1, 2))
    made = loss_of(tmp_path, "adpa", sets(TokenTeacher(top=261), answer="sure"), student)
    expected = []
    for k in range(3):
        prompt = f"say {k}"
        value = -full(student, prompt, "sure")[1].mean().item()
        for text in ("yes", "no!"):
            ours, theirs, first = (full(model, prompt, text)[0] for model in (student, aligned, before))
            value -= 1.6 * (ours.exp() * (theirs - first)).sum(-1).mean().item() / 2
        expected.append(value)
    assert made.loss.item() == pytest.approx(sum(expected) / 3, abs=1e-5)
    assert made.metrics["advantage/most_negative"] <= made.metrics["advantage/mean"]


def test_equal_teachers_leave_adpa_its_likelihood_alone(tmp_path: Path) -> None:
    scored = sets(TokenTeacher(seeds=(1, 1)), answer="sure")
    student = tiny_model(seed=0)
    made = loss_of(tmp_path, "adpa", scored, student, nll_weight=0.0)
    made.loss.backward()
    assert made.loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_a_run_samples_scores_and_learns(tmp_path: Path, method: str) -> None:
    trainer(tmp_path, TokenTeacher(reference=method == "adpa"), PAIRS, method=method, top_k=10, n=2).train()
    lines = metrics(tmp_path)
    assert len([line for line in lines if "loss/nll" in line]) == 6
    scored = [json.loads(line) for line in (tmp_path / "rounds" / "000000" / "scored.jsonl").read_text().splitlines()]
    if method == "dckd":
        assert {r["text"] for each in scored for r in each["responses"]} >= {"no"}
    else:
        assert all(each["answer"].startswith("yes") for each in scored)


def test_dckd_draws_the_student_to_the_teacher(tmp_path: Path) -> None:
    settings = {"method": "dckd", "top_k": 10, "chosen_weight": 1.0, "rejected_weight": 1.0, "max_steps": 24}
    trainer(tmp_path, TokenTeacher(), PAIRS, **settings, nll_weight=0.0, learning_rate=1e-2).train()
    values = [line["kl/chosen"] for line in metrics(tmp_path) if "kl/chosen" in line]
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_a_continued_run_has_the_same_weights(tmp_path: Path, method: str) -> None:
    settings = {"method": method, "top_k": 10, "n": 2, "lr_scheduler_type": "constant"}
    whole = trainer(tmp_path / "whole", TokenTeacher(), PAIRS, **settings)
    whole.train()
    trainer(tmp_path / "again", TokenTeacher(), PAIRS, **settings, max_steps=4).train()
    again = trainer(tmp_path / "again", TokenTeacher(), PAIRS, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_scored_sets_can_be_trained_on_without_a_teacher(tmp_path: Path) -> None:
    scored = sets(TokenTeacher(), answer="sure")
    trainer(tmp_path, None, scored, method="adpa", n=2, max_steps=2).train()
    assert metrics(tmp_path)[-1]


def test_the_likeliest_response_alone_is_scored_and_learnt(tmp_path: Path) -> None:
    """A set of one text has no preference, and each of its tokens an advantage."""
    trainer(tmp_path, TokenTeacher(), PAIRS, method="adpa", n=1, temperature=0.0, max_steps=2).train()
    folder = tmp_path / "rounds" / "000000"
    sampled, scored = ((folder / f"{name}.jsonl").read_text().splitlines() for name in ("sets", "scored"))
    assert len(scored) == len(sampled) > 0
    assert all("loss/nll" in line and "share/one_text" not in line for line in metrics(tmp_path))


def test_scored_sets_of_one_text_are_learnt_token_by_token(tmp_path: Path) -> None:
    same = [SampledSet(id=f"{k}", prompt=f"say {k}", responses=[Response(text="yes")] * 2) for k in range(3)]
    scored = list(TokenTeacher().score_stream(same))
    made = trainer(tmp_path, None, scored, method="dckd", max_steps=1)
    assert len(made.train_dataset) == 3


def impossible(scored: ScoredSet, *names: str) -> ScoredSet:
    """The set with a token that has no probability in the tensors of these names; the rest takes what it had."""
    tables = decoded(scored.token_tables or "")
    arrays = {name: values.copy() for name, values in tables[0].arrays.items()}
    for name in names:
        values, rest = arrays[name], arrays[name.replace("top_logprobs", "rest").replace("_logprobs", "_rest")]
        rest[0] = np.logaddexp(rest[0], values[0, 3])
        values[0, 3] = -np.inf
    return scored.model_copy(update={"token_tables": encoded([TokenTable(arrays), *tables[1:]])})


def test_a_named_token_without_probability_counts_for_nothing(tmp_path: Path) -> None:
    """Its share of the divergence, p ln p, is 0 in the limit; so is the advantage if the reference has none too."""
    student = tiny_model()
    (scored, *_) = sets(TokenTeacher(), answer="sure")
    for method, names in (("dckd", ["top_logprobs"]), ("adpa", ["top_logprobs", "reference_logprobs"])):
        made = loss_of(tmp_path, method, [impossible(scored, *names)], student)
        made.loss.backward()
        assert made.loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("name", ["top_logprobs", "reference_logprobs"])
def test_an_infinite_advantage_is_an_error_that_names_the_set(tmp_path: Path, name: str) -> None:
    (scored, *_) = sets(TokenTeacher(), answer="sure")
    with pytest.raises(DatasetError, match="set '0': its tensors top_logprobs and reference_log"):
        loss_of(tmp_path, "adpa", [impossible(scored, name)], tiny_model())


def test_a_teacher_with_other_token_ids_is_an_error() -> None:
    (scored, *_) = sets(TokenTeacher())
    other = scored.model_copy(update={"responses": scored.responses[::-1]})
    with pytest.raises(DatasetError, match="token ids are not the student's"):
        token_batch_of([other], ENCODER, reference=False)


def test_sets_without_what_a_method_needs_are_errors() -> None:
    (scored, *_) = sets(TokenTeacher(), answer="sure")
    (alone, *_) = sets(TokenTeacher(reference=False), answer="sure")
    for changes, message in (
        ({"token_tables": None}, "token_tables"),
        ({"token_tables": "AAAA"}, "safetensors"),
        ({"answer": None}, "chosen"),
        ({"reference": None}, "without the teacher's reference"),
        ({"token_tables": alone.token_tables}, "reference_token_logprobs is missing"),
    ):
        with pytest.raises(DatasetError, match=message):
            token_batch_of([scored.model_copy(update=changes)], ENCODER, reference=True)


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_a_batch_without_sets_weighs_nothing_and_runs(tmp_path: Path, method: str) -> None:
    made = TokenMethod(config(tmp_path, method=method, n=2), ENCODER)
    batch = made.batch([])
    assert made.loss(batch, made.student(tiny_model(), batch, False)).loss.isfinite()
    rows = 3 if method == "adpa" else 2
    assert batch.keys() == empty_token_batch(rows, 1, reference=method == "adpa").keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dckd", "parts": 2}, "parts is for method pad"),
        ({"method": "adpa", "resample_temperature": 2.0}, "resample_temperature is for method pad"),
        ({"method": "adpa", "temperature": 0.0, "n": 2}, "n = 1"),
        ({"n": 1}, "two or more"),
        ({"method": "other"}, "method"),
        ({"top_k": 257}, "top_k"),
    ],
)
def test_settings_that_a_method_cannot_use_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


def card(**changes: Any) -> ModelCard:
    names = {"id": "t", "created": 0, "fingerprint": "f", "engine": "e", "dtype": "float32", "end_of_turn": "<end>"}
    return ModelCard(
        **{**names, "limits": Limits(**LIMITS), "tokenizer": tokenizer_digest(byte_tokenizer()), **changes}
    )


def described(**changes: Any) -> Any:
    return SimpleNamespace(model=lambda: card(**changes))


def test_another_tokenizer_or_no_reference_is_refused(tmp_path: Path) -> None:
    adpa, dckd = config(tmp_path, method="adpa"), config(tmp_path, method="dckd")
    check_teacher(described(reference=TeacherId(model="r", fingerprint="g")), byte_tokenizer(), adpa)
    check_teacher(described(), byte_tokenizer(), dckd)
    with pytest.raises(ConfigError, match="--reference"):
        check_teacher(described(), byte_tokenizer(), adpa)
    with pytest.raises(ConfigError, match="one tokenizer"):
        check_teacher(described(), tiny_tokenizer(), dckd)
    with pytest.raises(ConfigError, match="older"):
        check_teacher(described(tokenizer=None), byte_tokenizer(), dckd)


def test_a_students_pass_holds_only_what_is_named(tmp_path: Path) -> None:
    """The same numbers as without named tokens: the pass is the likelihood's."""
    made = TokenMethod(config(tmp_path, method="dckd"), ENCODER)
    batch = made.batch(sets(TokenTeacher()))
    model = tiny_model()
    ours = made.student(model, batch, False)
    plain = response_log_likelihoods(model, batch["input_ids"], batch["attention_mask"], batch["response_mask"])
    assert torch.allclose(ours.log_likelihood, plain.log_likelihood, atol=1e-5)
