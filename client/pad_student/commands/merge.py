"""``pad-student merge``: an adapter and its base in, one plain model out."""

from pathlib import Path

from pad_student.commands.common import closing_line
from pad_student.commands.settings import MergeSettings
from pad_student.errors import OtherRun, SamplingError
from pad_student.storage.modes import readable_as_umask_says


def run(settings: MergeSettings) -> None:
    """Merge in 32 bits, and save in the base's own type unless another one is asked for.

    Raises:
        OtherRun: the output is not empty.
        SamplingError: there is no adapter, or it cannot be merged.
        OSError: the base model cannot be loaded.
    """
    folder = Path(settings.model)
    if not (folder / "adapter_config.json").is_file():
        why = "it is a whole model already" if (folder / "config.json").is_file() else "no such adapter"
        raise SamplingError(f"{settings.model}: {why}; merge takes the directory of an adapter (LoRA)")
    if settings.out.exists() and any(settings.out.iterdir()):
        raise OtherRun(f"{settings.out} is not empty; give another output")
    from transformers import AutoConfig
    from transformers.utils.logging import disable_progress_bar

    from pad_student.sampling.generate import load_student

    disable_progress_bar()
    student = load_student(settings.model, dtype="float32")
    model = student.model
    kind = settings.dtype
    if kind == "auto":
        import orjson

        base = orjson.loads((folder / "adapter_config.json").read_bytes())["base_model_name_or_path"]
        config = AutoConfig.from_pretrained(base)
        kind = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    import torch

    settings.out.mkdir(parents=True, exist_ok=True)
    model.to(getattr(torch, kind)).save_pretrained(settings.out)
    tokenizer = student.encoder.tokenizer
    tokenizer.save_pretrained(settings.out)  # type: ignore[attr-defined]
    readable_as_umask_says(settings.out)
    closing_line(f"{settings.out}: one model of {kind}; try it with pad-student chat {settings.out}")


# pyright: standard
