"""A run directory as training writes it, with a text of the test's choice and with files left out."""

import json
from pathlib import Path
from typing import Any

STEPS = 20
TEACHER = {"model": "large/teacher", "fingerprint": "f00d"}


def fake_run(folder: Path, text: str = "yes", prompt: Any = "why?", leave_out: tuple[str, ...] = ()) -> Path:
    """Write the files of a run whose prompts, responses, names and settings all hold ``text``."""
    files = {
        "metrics": [metrics(step) for step in range(1, STEPS + 1)],
        "costs": [
            {"step": k, "seconds/sampled": 1.0, "seconds/waited_for_teacher": 2.0, "seconds/trained": 1.0}
            | {"teacher_seconds/scored": 3.0, "teacher_seconds/waited_for_student": 1.0, "teacher_tokens": 100}
            for k in range(1, STEPS + 1)
        ],
        "starts": [start(text)],
        "evaluations": [evaluation(step) for step in (10, STEPS)],
        "shown": [answered(text, prompt, 0), answered(text, prompt, STEPS)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        if name not in leave_out:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "settings" not in leave_out:
        settings = {"model": text, "loss": "ppd", "beta_teacher": 10.0, "beta_student": 2.0, "prompts": text}
        (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def metrics(step: int) -> dict[str, float]:
    ranks = {f"mean_log_likelihood/rank_{k}": -k - 1 / step for k in (1, 2)}
    signal = {"entropy/teacher": 0.5, "entropy/student": 0.8, "agreement/top1": 0.5, "label_mass": 0.95}
    signal |= {"share/cut": 0.1, "share/copies": 0.2, "share/one_text": 0.1}
    signal |= {"choice/spread": 0.3, "choice/order_disagreement": 0.2}
    moving = {"loss": 1 / step, "loss/preference": 1 / step, "agreement/pairwise": 0.5 + step / 100}
    rewards = {"reward/teacher": -1 / step, "reward/student": -2 / step, "length/tokens": 10.0 + step}
    return {"step": step, "grad_norm": 1.0, "learning_rate": 1e-4, **ranks, **signal, **moving, **rewards}


def evaluation(step: int) -> dict[str, float]:
    gain = {"eval_reward_gain": 0.2, "eval_reward_gain_low": 0.1, "eval_reward_gain_high": 0.3}
    return {"step": step, "eval_reward": -1.0 + step / 100, "eval_win_rate": 0.7, "eval_kl": 0.1, **gain}


def start(text: str) -> dict[str, Any]:
    return {
        "started": "2026-01-01T00:00:00+00:00",
        "step": 0,
        "command": f"pad-student distill {text}",
        "max_steps": STEPS,
        "model": text,
        "rows": 8,
        "rows_are": "prompts",
        "teacher": {**TEACHER, "model": text},
        "processes": 1,
        "device": "cpu",
        "versions": {"torch": "2"},
        "settings": {"n": 2, text: text},
    }


def answered(text: str, prompt: Any, step: int) -> dict[str, Any]:
    scores = {"log_likelihood": -2.0, "tokens": 2, "mean_log_likelihood": -1.0, "selection_probability": 0.5}
    samples = [{"text": text, "finished": True}, {"text": "no", "finished": False}]
    return {
        "id": f"p@{step}",
        "prompt_id": "p",
        "step": step,
        "prompt": prompt,
        "samples": samples,
        "samples_rewards_teacher": [-0.5, -1.0],
        "compared": {"id": "p", "responses": [each | scores for each in samples], "label_mass": 0.9},
        "rewards_teacher": [-0.1, -0.5],
        "rewards_student": [-1.0, -0.5 - step / 10],
    }
