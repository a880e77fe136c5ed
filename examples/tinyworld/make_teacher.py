"""The teacher: a Llama that answers well, finds better answers likelier, and picks the best by its letter."""

import random
from dataclasses import dataclass

import torch
import world
from judging import Asker, Questions, question_loss, response_set
from learning import log_likelihoods, optimiser, update
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pad_wire.chat import ChatEncoder
from pad_wire.sets import Message

Pool = list[tuple[str, list[str]]]  # prompts with responses that a real student gave

LIKELIHOOD_SPREAD = 4.0  # nats of mean log-likelihood between the worst grade and the best
ANY_SIZE = {2: 4, 3: 3, 4: 10, 5: 1, 6: 1, 8: 1}
RANKING_BETA = 2.0  # how sharply mean log-likelihoods are turned into a distribution over responses


@dataclass(frozen=True)
class Lesson:
    """One stretch of training: how many steps, how fast, and what a step's batch holds."""

    steps: int
    rate: float
    demonstrations: int
    rankings: int
    questions: int
    sizes: dict[int, int]  # relative frequency of each number of options
    best: float  # how often the best answer is put among the options


LESSONS = [
    Lesson(350, 2e-3, demonstrations=128, rankings=0, questions=0, sizes={}, best=0),
    Lesson(200, 2e-3, demonstrations=32, rankings=0, questions=48, sizes={2: 1}, best=0.8),
    Lesson(1000, 2e-3, demonstrations=48, rankings=8, questions=40, sizes=ANY_SIZE, best=0.4),
]


def new_teacher(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained teacher."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def imitation_loss(model: LlamaForCausalLM, encoder: ChatEncoder, rng: random.Random, count: int) -> Tensor:
    """Give the best answer."""
    prompts = [world.training_instruction(rng) for _ in range(count)]
    ids = [encoder.prompt_ids(_sometimes_with_system(rng, prompt)) for prompt in prompts]
    best = encoder.response_ids([world.best_answer(prompt) for prompt in prompts], [True] * count)
    sums, counts = log_likelihoods(model, ids, best)
    return -sums.sum() / counts.sum()


def ranking_loss(model: LlamaForCausalLM, encoder: ChatEncoder, rng: random.Random, pool: Pool, count: int) -> Tensor:
    """Let mean log-likelihood fall with the grade, among four responses to one prompt."""
    prompts, responses, grades = [], [], []
    for _ in range(count):
        prompt, four = response_set(rng, pool, 4, best=0.5)
        prompts += [encoder.prompt_ids(prompt)] * 4
        responses += encoder.response_ids(four, [True] * 4)
        grades.append(world.graded(prompt, four))
    sums, counts = log_likelihoods(model, prompts, responses)
    wanted_P_N = (torch.tensor(grades) * LIKELIHOOD_SPREAD * RANKING_BETA).softmax(1)
    return functional.cross_entropy((sums / counts).view(-1, 4) * RANKING_BETA, wanted_P_N)


def train_teacher(tokenizer: PreTrainedTokenizerFast, pool: Pool, seed: int) -> LlamaForCausalLM:
    """Good answers first, with easy questions; then harder questions and ranking; then good answers again."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = new_teacher(tokenizer).train()
    judge = nn.Linear(model.config.hidden_size, 2)
    for number, lesson in enumerate(LESSONS, start=1):
        teach(model, judge, ChatEncoder.of(tokenizer), rng, pool, lesson, f"teacher, lesson {number}")
    return model.eval()


def teach(
    model: LlamaForCausalLM,
    judge: nn.Linear,
    encoder: ChatEncoder,
    rng: random.Random,
    pool: Pool,
    lesson: Lesson,
    name: str,
) -> None:
    """Give one lesson."""
    asker = Asker(encoder, model.config.vocab_size)
    learner, schedule = optimiser(nn.ModuleList([model, judge]), lesson.rate, lesson.steps)
    named = 0.0
    for _ in (bar := tqdm(range(lesson.steps), desc=name, unit="step")):
        asked, right = torch.zeros(()), 0.0
        if lesson.questions:
            questions = Questions()
            for n in rng.choices(list(lesson.sizes), list(lesson.sizes.values()), k=lesson.questions):
                asker.add(questions, *response_set(rng, pool, n, lesson.best))
            asked, right = question_loss(model, judge, questions)
            asked.backward()
        told = imitation_loss(model, encoder, rng, lesson.demonstrations)
        ranked = ranking_loss(model, encoder, rng, pool, lesson.rankings) if lesson.rankings else torch.zeros(())
        update(model, told + 0.5 * ranked, learner, schedule)
        named = 0.95 * named + 0.05 * right
        bar.set_postfix(
            told=f"{told.item():.2f}",
            ranked=f"{ranked.item():.2f}",
            asked=f"{asked.item():.2f}",
            named=f"{named:.2f}",
            refresh=False,
        )


def _sometimes_with_system(rng: random.Random, prompt: str) -> str | list[Message]:
    if rng.random() > 0.1:
        return prompt
    system = rng.choice(world.SYSTEM_PROMPTS)
    return [Message(role="system", content=system), Message(role="user", content=prompt)]
