#!/usr/bin/env bash
# The ways of scoring.py on one CUDA GPU, in under eight minutes; writes benchmarks/scoring_gpu.json.
#
#   bash benchmarks/gpu.sh
#
# PYTHON is one that has the service's and the client's needs (default: .venv, else python3). LM_EVAL_PYTHON and
# VLLM_PYTHON add those peers; lm-eval is also found beside the service. COMMIT names the code where git is not there.
# A part that fails or runs out of time is recorded, and the next one starts.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD/server:$PWD/shared:$PWD/client${PYTHONPATH:+:$PYTHONPATH}"
limit=460 # seconds for all parts together
results=runs/bench/gpu
rm -rf "$results"
mkdir -p "$results"

ways=ours,http,plain,padded,authors
peers=()
if [ -n "${LM_EVAL_PYTHON:-}" ] || "$python" -c 'import lm_eval' 2>/dev/null; then
    ways+=,lm-eval
    peers+=(--lm-eval-python "$(command -v "${LM_EVAL_PYTHON:-$python}")")
fi
if [ -n "${VLLM_PYTHON:-}" ]; then
    ways+=,vllm,vllm-two-stage
    peers+=(--vllm-python "$VLLM_PYTHON")
fi

# part NAME SECONDS OPTION...: one run of scoring.py, one model in memory at a time.
part() {
    local name=$1 seconds=$2 left=$((limit - SECONDS)) status
    shift 2
    [ "$seconds" -le "$left" ] || seconds=$left
    if [ "$seconds" -lt 30 ]; then
        echo "no time was left" >"$results/$name.failed"
        return
    fi
    echo "== $name, at most $seconds s" >&2
    timeout --kill-after=15 "$seconds" "$python" benchmarks/scoring.py --device cuda --sequential --timeout 120 \
        "${peers[@]}" --out "$results/$name.json" "$@" 2> >(tee "$results/$name.log" >&2)
    status=$?
    [ $status -eq 0 ] || echo "exit status $status: $(tail -n 1 "$results/$name.log")" >"$results/$name.failed"
}

# Without questions the authors' way is the plain one.
scorers=${ways/,authors/}
part smollm2-135m-float32 120 --ways "$ways" --sets 64 --rounds 3 --selection
part gemma-2-2b-bfloat16 110 --ways "$scorers" --model gemma-2-2b --dtype bfloat16 --sets 16 --reference-sets 1
part llama-3.1-8b-bfloat16 230 --ways "$scorers" --model llama-3.1-8b --dtype bfloat16 --sets 16 --reference-sets 1

"$python" - "$results" "${COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}" "$SECONDS" <<'PYTHON'
import datetime, json, pathlib, sys

import torch

folder, commit, seconds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
parts = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
result = {
    "command": "bash benchmarks/gpu.sh",
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device",
    "commit": commit,
    "seconds": seconds,
    "failed": {file.stem: file.read_text().strip() for file in sorted(folder.glob("*.failed"))},
    "parts": parts,
}
pathlib.Path("benchmarks/scoring_gpu.json").write_text(json.dumps(result, indent=2) + "\n")
print(f"benchmarks/scoring_gpu.json: {len(parts)} parts in {seconds} s, {len(result['failed'])} failed")
PYTHON
