"""Numbers over HTTP against float64 arithmetic that knows nothing of this project but its wire format."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.processes import TeacherProcess, teacher_process

TINYWORLD = Path(__file__).parents[2] / "examples" / "tinyworld"
RESPONSES = ["three four five", "five four three", "three four", "no"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    log = tmp_path_factory.mktemp("teacher") / "log"
    # Without the cache: a score that is given out again says nothing about how it is computed.
    with teacher_process(TINYWORLD / "teacher", log, "--cache-bytes", "0") as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="module")
def sets() -> list[dict[str, Any]]:
    lines = (TINYWORLD / "heldout.jsonl").read_text().splitlines()[:12]
    made = []
    for index, line in enumerate(lines):
        responses: list[Any] = RESPONSES[: 2 + index % 3]
        made.append(
            {"prompt": json.loads(line)["prompt"], "responses": [*responses, {"text": "the", "finished": False}]}
        )
    return made


class Float64:
    """One full forward a text, in float64, with transformers and nothing else."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(TINYWORLD / "teacher")
        self.model = AutoModelForCausalLM.from_pretrained(TINYWORLD / "teacher", dtype=torch.float64).eval()
        template = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], tokenize=False
        )
        self.end = self.tokenizer(template, add_special_tokens=False)["input_ids"][-1]

    def prompt(self, text: str) -> list[int]:
        message = [{"role": "user", "content": text}]
        rendered = self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(rendered, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def log_probs(self, ids: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids])).logits[0].log_softmax(-1)

    def likelihood(self, prompt: str, response: Any) -> tuple[float, int]:
        text, finished = (response, True) if isinstance(response, str) else (response["text"], response["finished"])
        answer = self.tokenizer(text, add_special_tokens=False)["input_ids"] + [self.end] * finished
        start = self.prompt(prompt)
        rows = self.log_probs(start + answer)[len(start) - 1 : -1]
        return sum(rows[k, token].item() for k, token in enumerate(answer)), len(answer)

    def selection(self, prompt: str, responses: list[Any]) -> tuple[list[float], float]:
        texts = [response if isinstance(response, str) else response["text"] for response in responses]
        n, sums, masses = len(texts), [0.0] * len(texts), 0.0
        letters = [self.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ABCDEFG"]
        for turn in range(n):
            order = [(turn + k) % n for k in range(n)]
            options = "\n\n".join(f'({letter}) "{texts[i]}"' for letter, i in zip("ABCDEFG", order, strict=False))
            question = (
                f"{prompt}\n\nHere are responses to the request above:\n\n{options}\n\n"
                "Which response is the most helpful, correct and relevant?"
            )
            begun = self.tokenizer("The best response is (", add_special_tokens=False)["input_ids"]
            last = self.log_probs(self.prompt(question) + begun)[-1]
            probabilities = [math.exp(last[letters[k]].item()) for k in range(n)]
            masses += sum(probabilities) / n
            for k, i in enumerate(order):
                sums[i] += probabilities[k] / sum(probabilities) / n
        return sums, masses


def test_likelihoods_and_selections_equal_float64_to_1e_4(
    teacher: TeacherProcess, sets: list[dict[str, Any]]
) -> None:
    exact = Float64()
    reply = teacher.http.post("/v1/score", json={"sets": sets}).json()
    for item, scored in zip(sets, reply["sets"], strict=True):
        selection, mass = exact.selection(item["prompt"], item["responses"])
        assert scored["label_mass"] == pytest.approx(mass, abs=1e-4)
        for response, score, chosen in zip(item["responses"], scored["responses"], selection, strict=True):
            value, tokens = exact.likelihood(item["prompt"], response)
            assert score["tokens"] == tokens
            assert score["log_likelihood"] == pytest.approx(value, abs=1e-4)
            assert math.log(score["selection_probability"]) == pytest.approx(math.log(chosen), abs=1e-4)


def test_a_set_scores_the_same_alone_and_among_others(teacher: TeacherProcess, sets: list[dict[str, Any]]) -> None:
    def scores(items: list[dict[str, Any]], job: str = "a") -> list[list[float]]:
        reply = teacher.http.post("/v1/score", json={"sets": items}, headers={"X-Job-Id": job}).json()
        return [
            [value for r in item["responses"] for value in (r["mean_log_likelihood"], r["selection_probability"])]
            for item in reply["sets"]
        ]

    alone = [scores([item])[0] for item in sets]
    batched = scores(sets)
    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(scores, sets[::-1], f"other{k}") for k in range(5)]
        among = [future.result()[0] for future in [pool.submit(scores, [item], "mine") for item in sets]]
        assert all(other.result() for other in others)
    for one, two, three in zip(alone, batched, among, strict=True):
        assert two == pytest.approx(one, abs=1e-5)
        assert three == pytest.approx(one, abs=1e-5)
