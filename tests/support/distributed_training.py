"""The work of each rank in distributed tests: a PADTrainer in float64, whose weights are saved for comparison."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from pad_student.preference.config import PADConfig
from pad_student.sampling import generate as sampling
from pad_student.training.trainer import PADTrainer
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId
from support.fakes import byte_tokenizer
from support.ranks import student_command
from support.tiny import tiny_model

FOLLOWED = {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}

LIKED = [-0.4, -0.9, -1.7, -0.6]


def scored_sets(count: int = 8, letters: int = 50) -> list[ScoredSet]:
    """Sets of responses of different lengths, so that ranks differ in how much they have to predict."""
    return [
        ScoredSet(
            id=f"s{k}",
            prompt=f"say {k}",
            label_mass=0.9,
            teacher=TeacherId(model="fake", fingerprint="f"),
            responses=[
                ScoredResponse(
                    text="ab"[j % 2] * (letters + 7 * j + k) + str(k),
                    log_likelihood=5 * value,
                    tokens=5,
                    mean_log_likelihood=value,
                    selection_probability=[0.4, 0.1, 0.2, 0.3][(j + k) % 4],
                )
                for j, value in enumerate(LIKED)
            ],
        )
        for k in range(count)
    ]


class Observed(PADTrainer):
    """Records the dtypes of the loss and of the student's scores."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(*args, **kwargs | {"return_outputs": True})
        self.dtypes = {"loss": str(loss.dtype), "scores": str(outputs["scores_student"].dtype)}
        return loss


class Teacher:
    """Scores texts by an arithmetic rule, and leaves some prompts out."""

    def __init__(self, refused: Iterable[str] = ()) -> None:
        self.refused = tuple(f"{name}@" for name in refused)

    def score_stream(self, sets: Iterable[SampledSet], **_: Any) -> Iterator[ScoredSet]:
        for each in sets:
            if each.id.startswith(self.refused):
                continue
            values = [-0.5 - sum(response.text.encode()) % 7 / 4 for response in each.responses]
            responses = [
                ScoredResponse(
                    **response.model_dump(),
                    log_likelihood=5 * value,
                    tokens=5,
                    mean_log_likelihood=value,
                    selection_probability=1 / len(values),
                )
                for response, value in zip(each.responses, values, strict=True)
            ]
            teacher = TeacherId(model="fake", fingerprint="f")
            yield ScoredSet(id=each.id, prompt=each.prompt, responses=responses, label_mass=0.9, teacher=teacher)


def train(
    out: Path,
    how: dict[str, Any],
    lora: bool | list[str] = False,
    dtype: str = "float64",
    sharded: bool = False,
    samples: bool = False,
) -> None:
    """Train two steps of four prompts, on scored sets or on samples; save the weights as ``weights.pt``."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4 // processes,
        "learning_rate": 1e-3,
        "save_steps": 100,
        "keep_rounds": "all",
        "use_cpu": True,
        "disable_tqdm": True,
        "max_response_tokens": 12,
        "sampling_batch_size": 1,  # a batch shares one random stream
    }
    if sharded:
        let_cpus_shard()
    if "deepspeed" in how:
        compile_nothing()
    shares, count, refused = how.pop("shares", True), how.pop("rows", 8), how.pop("refused", ())
    config = PADConfig(**settings | how)
    torch.manual_seed(0)
    model = tiny_model().to(getattr(torch, dtype))
    adapter = None
    if lora:
        from peft import LoraConfig

        modules = "all-linear" if lora is True else lora
        adapter = LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM")
    prompts = [{"id": f"p{k}", "prompt": "say " * (k + 1)} for k in range(count)]
    rows, teacher = (prompts, Teacher(refused)) if samples else (scored_sets(count), None)
    trainer = Observed(model, config, rows, byte_tokenizer(), teacher, adapter)  # type: ignore[arg-type]
    trainer.shares_prompts &= shares
    if samples and os.environ.get("RANK") == "0":
        _sample_twice()
    trainer.train()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        assert trainer.is_fsdp_enabled == sharded
        torch.save(state, out / "weights.pt")
        (out / "dtypes.json").write_text(json.dumps(trainer.dtypes))


def _sample_twice() -> None:
    """Sample twice and keep the second result: this rank runs more forward passes than the others."""
    once = sampling._generate_batch
    sampling._generate_batch = lambda *args: (once(*args), once(*args))[1]


def let_cpus_shard() -> None:
    """Let Accelerate shard on CPUs: it allows FSDP on GPUs only, but PyTorch shards over gloo too."""
    from accelerate.state import DistributedType, PartialState

    usual = PartialState.__init__

    def begin(state: Any, *args: Any, **kwargs: Any) -> None:
        usual(state, *args, **kwargs)
        if state.distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = begin


def compile_nothing() -> None:
    """Keep DeepSpeed from compiling its shared-memory operator, which needs a compiler; gloo replaces it."""
    from importlib import import_module

    import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]


def zero(stage: int) -> dict[str, Any]:
    """DeepSpeed's settings, with thresholds that shard even a tiny model."""
    shards = {
        "stage": stage,
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    return {"zero_optimization": shards, "train_micro_batch_size_per_gpu": "auto", **FOLLOWED}


def zero_student_command(*arguments: str) -> None:
    """One ``pad-student`` command under DeepSpeed."""
    compile_nothing()
    student_command(*arguments)


def launched_student_command(config: str, *arguments: str) -> None:
    """One ``pad-student`` command as ``accelerate launch --config_file`` starts it, without a launcher."""
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    def take_settings(asked: Any) -> None:
        told = prepare_deepspeed_cmd_env(asked)[1]
        os.environ.update({name: value for name, value in told.items() if name.startswith("ACCELERATE_")})

    launch.deepspeed_launcher = take_settings
    options = ["--config_file", config, "--num_processes", "2", "--main_process_port", "0", "pad-student"]
    launch.launch_command(launch.launch_command_parser().parse_args(options))
    zero_student_command(*arguments)


def sharded_student_command(*arguments: str) -> None:
    """One ``pad-student`` command whose processes may shard."""
    let_cpus_shard()
    student_command(*arguments)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name.removeprefix("module."): value for name, value in torch.load(folder / "weights.pt").items()}


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "epoch"} for line in lines]


def sampled(folder: Path) -> dict[str, str]:
    found = [json.loads(line) for path in folder.glob("rounds/*/sets*") for line in path.read_text().splitlines()]
    return {each["id"]: str(each["responses"]) for each in found}
