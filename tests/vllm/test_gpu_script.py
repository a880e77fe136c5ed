"""The GPU measurement's script, every line of it, on a CPU with a tiny model: ``make test-vllm``."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_gpu_script_measures_parity_and_every_contender() -> None:
    done = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu.sh", "--smoke"],
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((ROOT / "runs" / "bench" / "gpu" / "gpu.json").read_text())
    assert result["failed"] == {}
    assert {"date", "device", "commit", "seconds"} <= result.keys()
    pairs = {(pair["one"], pair["other"]): pair for pair in result["parity"]["pairs"]}
    assert set(pairs) == {("ours-vllm", "ours"), ("ours", "float32"), ("ours-vllm", "float32")}
    for pair in pairs.values():
        assert pair["likelihood"]["largest_nats"] < 0.1
    assert len(result["parts"]) == 3
    for part in result["parts"].values():
        rows = {row["contender"]: row for row in part["rows"] if row["part"] == "likelihood"}
        assert "ours" in rows
        for row in rows.values():
            assert row["tokens_per_second"] > 0
            assert row["share_of_floor"] > 0
            assert row["peak_memory_bytes"] > 0
    contenders = {row["contender"] for row in result["parts"]["1-tiny-float32"]["rows"]}
    assert {"ours", "ours-vllm", "http", "plain", "vllm", "padded"} <= contenders
