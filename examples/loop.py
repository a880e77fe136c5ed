"""Preference-Aligned Distillation in one file, from prompts to updates, without a Trainer.

    pad-teacher serve --model examples/tinyworld/teacher    # in a first shell
    python examples/loop.py [URL [STEPS]]                   # in a second one

Axes: P prompts, N responses to each. The equations are those of PAD, arXiv 2502.14272.
"""

import sys
from pathlib import Path

import torch

import pad_student as pad

WORLD = Path(__file__).parent / "tinyworld"
P, N = 32, 4
ALPHA = 0.8  # the reward's weight of the teacher's choice; its likelihood has the rest
BETA_TEACHER, BETA_STUDENT = 10.0, 2.0  # how sharp each side's preferences are


def main(url: str = "http://127.0.0.1:8010", steps: str = "20") -> None:
    torch.manual_seed(0)
    student = pad.load_student(str(WORLD / "student"))
    model, encoder = student.model, student.encoder
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    prompts = pad.read_prompts(WORLD / "prompts.jsonl")
    teacher = pad.Teacher(url, job="loop")

    for step in range(int(steps)):
        # 1. Sample N responses to each of P prompts from the student as it is now.
        lines = prompts[step * P : (step + 1) * P]
        asked = [line.prompt for line in lines]
        sampled = pad.sample_responses(model, encoder, asked, n=N, temperature=0.8, max_new_tokens=24, seed=step)
        pairs = zip(lines, sampled, strict=True)
        sets = [pad.SampledSet(id=line.id, prompt=line.prompt, responses=found) for line, found in pairs if found]

        # 2. Score them over HTTP: the likelihood of each response, and the probability that the teacher picks it.
        scored = teacher.score(sets, alpha=ALPHA)

        # 3. Rewards. Teacher: (1 - alpha) * mean log-likelihood + alpha * ln p(picked). Student: mean log-likelihood.
        batch = {name: value.to(model.device) for name, value in pad.batch_of(scored, encoder, alpha=ALPHA).items()}
        rows = (batch[name] for name in ("input_ids", "attention_mask", "response_mask"))
        log_likelihood, tokens, *_ = pad.response_log_likelihoods(model, *rows)
        teacher_P_N = batch["rewards_teacher"]
        student_P_N = pad.likelihood_reward(log_likelihood.view_as(teacher_P_N), tokens.view_as(teacher_P_N))

        # 4. Loss: the Jensen-Shannon divergence of the two Plackett-Luce distributions over all rankings.
        loss = pad.LOSSES["ppd"](BETA_TEACHER * teacher_P_N, BETA_STUDENT * student_P_N).mean()

        # 5. Update.
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}: loss {loss.item():.3f}, {teacher.tokens_scored:,} teacher tokens", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
