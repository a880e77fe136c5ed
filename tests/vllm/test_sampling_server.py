"""A real vLLM server that samples for a student while it is trained: ``make test-vllm``."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from pad_student.preference.config import PADConfig
from pad_student.sampling.generate import sample_responses
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.sampling.vllm_server import SamplerRefused, SamplerUnreachable, StaleWeights
from pad_student.training.trainer import PADTrainer
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.tiny import vllm_model
from support.vllm_server import vllm_server

NEAR = 1e-3  # nats a token
ENCODER = ChatEncoder.of(byte_tokenizer())
PROMPTS = [f"{k}, and the rest of what fills several blocks of the cache in every prompt" for k in range(6)]
HOW: dict[str, Any] = {"n": 4, "temperature": 0.8, "max_new_tokens": 12, "seed": 1, "keys": PROMPTS}


class LetterTeacher:
    """Likes responses with many of the letter e."""

    def score_stream(self, sets: Iterable[SampledSet], **_: Any) -> Iterator[ScoredSet]:
        for each in sets:
            values = [-5.0 + response.text.count("e") / (1 + len(response.text)) for response in each.responses]
            chosen = torch.tensor(values).softmax(0).tolist()
            responses = [
                ScoredResponse(
                    **response.model_dump(),
                    log_likelihood=5 * value,
                    tokens=5,
                    mean_log_likelihood=value,
                    selection_probability=share,
                )
                for response, value, share in zip(each.responses, values, chosen, strict=True)
            ]
            teacher = TeacherId(model="fake", fingerprint="f")
            yield ScoredSet(id=each.id, prompt=each.prompt, responses=responses, label_mass=0.9, teacher=teacher)


def student(seed: int = 0, **changes: Any) -> Any:
    model = vllm_model("llama", seed)
    if changes:
        model = LlamaForCausalLM(type(model.config)(**model.config.to_dict() | changes))
    model.generation_config.eos_token_id = ENCODER.end_of_turn
    return model


@contextmanager
def student_server(folder: Path) -> Iterator[str]:
    """Serve a student's checkpoint; the URL."""
    student().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    with vllm_server(folder, folder / "log") as url:
        yield url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with student_server(tmp_path_factory.mktemp("model")) as url:
        yield url


@pytest.fixture
def sampler(server: str, tmp_path: Path) -> VllmSampler:
    return VllmSampler(server, tmp_path / "sampler", NEAR)


def served_log_probs(url: str) -> torch.Tensor:
    """What the server says of a text of its own choice, without its cache."""
    name = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    request = {
        "model": name,
        "prompt": TEXT,
        "max_tokens": 1,
        "echo": True,
        "logprobs": 0,
        "cache_salt": os.urandom(8).hex(),
    }
    reply = httpx.post(f"{url}/v1/completions", json=request, timeout=60).json()
    return torch.tensor(reply["choices"][0]["logprobs"]["token_logprobs"][1:-1])


TEXT = ENCODER.prompt_ids("what do you say?")


@torch.no_grad()
def own_log_probs(model: Any) -> torch.Tensor:
    log_probs = model.eval()(torch.tensor([TEXT])).logits[0, :-1].log_softmax(-1)
    return log_probs.gather(1, torch.tensor(TEXT[1:])[:, None])[:, 0]


def config(folder: Path, url: str, **changes: Any) -> PADConfig:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 3,
        "max_response_tokens": 12,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "disable_tqdm": True,
        "sampler_url": url,
        "sampler_tolerance": NEAR,
    }
    return PADConfig(**settings | changes)


def train(folder: Path, url: str, **changes: Any) -> PADTrainer:
    prompts = [{"id": f"p{k}", "prompt": prompt} for k, prompt in enumerate(PROMPTS)]
    trainer = PADTrainer(student(), config(folder, url, **changes), prompts, byte_tokenizer(), LetterTeacher())
    trainer.train()
    return trainer


def test_a_run_samples_each_step_with_the_weights_of_that_step(server: str, tmp_path: Path) -> None:
    served, own = [], [own_log_probs(student())]
    for steps in (1, 2, 3):
        own.append(own_log_probs(train(tmp_path / str(steps), server, max_steps=steps).model))
        served.append(served_log_probs(server))
    for one, other in zip(served, own[:3], strict=True):  # a last step is sampled by what the one before it made
        assert one.numpy() == pytest.approx(other.numpy(), abs=NEAR)
    assert (served[1] - served[0]).abs().max() > 10 * NEAR
    assert (served[2] - served[1]).abs().max() > 10 * NEAR
    assert not (tmp_path / "3" / "sampler").exists()


def test_sampling_is_plain_and_reproducible(sampler: VllmSampler) -> None:
    model = student()
    sample = sampler.with_weights_of(model)
    first = sample(model, ENCODER, PROMPTS, **HOW)
    assert [len(responses) for responses in first] == [4] * len(PROMPTS)
    assert len({response.text for responses in first for response in responses}) > 4
    assert sample(model, ENCODER, PROMPTS, **HOW) == first
    assert sample(model, ENCODER, PROMPTS, **HOW | {"seed": 2}) != first


def test_greedy_responses_are_those_of_the_student_itself(sampler: VllmSampler) -> None:
    greedy = HOW | {"n": 1, "temperature": 0.0, "max_new_tokens": 60}
    for model in (student(), student(1)):
        own = sample_responses(model, ENCODER, PROMPTS, **greedy)
        assert sampler.with_weights_of(model)(model, ENCODER, PROMPTS, **greedy) == own


def test_a_first_token_is_drawn_from_the_whole_distribution(sampler: VllmSampler) -> None:
    model, count = student(), 512
    # Sixteen tokens, because a response that ends within its first character has no text and would be sampled again.
    how = HOW | {"n": 32, "max_new_tokens": 16, "keys": [str(k) for k in range(count // 32)]}
    texts: list[str] = []
    prompts = ["e"] * (count // 32)
    for responses in sampler.with_weights_of(model)(model, ENCODER, prompts, **how):
        texts += [response.text[:1] for response in responses]
    with torch.no_grad():
        logits = model(torch.tensor([ENCODER.prompt_ids("e")])).logits[0, -1]
    expected = (logits / HOW["temperature"]).softmax(-1)
    readable = {token: ENCODER.decode([token]) for token in expected.argsort(descending=True)[:100].tolist()}
    readable = {token: text for token, text in readable.items() if len(text) == 1 and text.isascii()}
    for token, text in readable.items():
        share = expected[token].item()
        assert abs(texts.count(text) - share * count) < 4 * (share * count) ** 0.5 + 2
    assert len({texts.count(text) for text in readable.values()}) > 3


def test_what_the_cache_holds_of_other_weights_is_not_used(sampler: VllmSampler) -> None:
    for seed in (0, 1, 0, 2):
        model = student(seed)
        sampler.with_weights_of(model)(model, ENCODER, PROMPTS, **HOW)  # checked against the model's own


def test_merging_an_adapter_leaves_its_model_alone_to_the_bit(sampler: VllmSampler) -> None:
    torch.manual_seed(3)
    adapted = get_peft_model(student(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    sampler.with_weights_of(adapted)(adapted, ENCODER, PROMPTS, **HOW)
    after = adapted.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(StaleWeights):
        sampler.sample(student(), ENCODER, PROMPTS, **HOW)


def test_the_weights_of_one_step_before_are_found_out(server: str, sampler: VllmSampler, tmp_path: Path) -> None:
    sample = sampler.with_weights_of(student())
    stepped = train(tmp_path, server, max_steps=1).model
    sampler.with_weights_of(student())
    with pytest.raises(StaleWeights, match="nats a token off the student's"):
        sample(stepped, ENCODER, PROMPTS, **HOW)


def test_weights_loaded_by_another_run_are_noticed(server: str, sampler: VllmSampler, tmp_path: Path) -> None:
    model = student()
    sample = sampler.with_weights_of(model)
    VllmSampler(server, tmp_path / "other", NEAR).with_weights_of(model)  # even the same ones
    with pytest.raises(StaleWeights, match="given other weights"):
        sample(model, ENCODER, PROMPTS, **HOW)


def test_a_context_too_small_is_said_before_anything_is_sampled(sampler: VllmSampler) -> None:
    model = student(max_position_embeddings=8000)
    sampler.with_weights_of(student())
    with pytest.raises(SamplerRefused, match="takes 2050 tokens"):
        sampler.sample(model, ENCODER, PROMPTS, **HOW | {"max_new_tokens": 4000})


def test_another_model_and_a_dead_server_are_noticed(tmp_path: Path) -> None:
    with student_server(tmp_path) as url:
        sampler = VllmSampler(url, tmp_path / "sampler", NEAR)
        shallow = student(num_hidden_layers=1)
        sample = sampler.with_weights_of(shallow)  # vLLM takes what there is
        with pytest.raises(StaleWeights):
            sample(shallow, ENCODER, PROMPTS, **HOW)
        with pytest.raises(SamplerRefused, match="restart it with the student's own model"):
            sampler.with_weights_of(student(hidden_size=128))
    with pytest.raises(SamplerUnreachable, match="cannot connect to the sampling server at http"):
        sampler.with_weights_of(student())
