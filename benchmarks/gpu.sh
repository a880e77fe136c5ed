#!/usr/bin/env bash
# The whole measurement on one CUDA GPU, in under eight minutes; writes benchmarks/results/gpu.json.
#
#   bash benchmarks/gpu.sh [--smoke]
#
# Part one is parity: the differences between both engines in bfloat16, and from float32. The other parts are scoring:
# tokens a second, share of the peak measured next to each run, and peak memory of every contender.
#
# A fresh machine needs pip install '.[server,client,vllm]'. Variables:
#   PYTHON                        a Python with these packages (default: .venv, else python3)
#   VLLM_PYTHON, LM_EVAL_PYTHON   Pythons of those peers, if they have their own
#   CUDA_VISIBLE_DEVICES          the GPU (default: 0); nothing else should use it
#   COMMIT                        the name of the code, if git is missing
#
# If a part fails or runs out of time, the result records it, the next part starts, and the exit status is 1.
# --smoke runs the same lines on a CPU with a tiny model and writes runs/bench/gpu/gpu.json.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
smoke=$([ "${1:-}" = --smoke ] && echo yes)
python=$(command -v "${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}") || exit 2
export PYTHONPATH="$PWD/server:$PWD/shared:$PWD/client${PYTHONPATH:+:$PYTHONPATH}"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
results=runs/bench/gpu
exec 3>&1

has() { "$1" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$2') is None)"; }
path_of() { command -v "$1" || echo "$1"; }

limit=450 patience=1 # seconds for all parts together; the last one may take 15 more to end
small=smollm2-135m middle=gemma-2-2b large=llama-3.1-8b device=cuda out=benchmarks/results/gpu.json
sizes=() sets=16 rounds=3
if [ "$smoke" ]; then
    limit=1800 patience=5 small=tiny middle=tiny large=tiny device=cpu out=$results/gpu.json
    sizes=(--prompt 48 --response 16 -n 3) sets=2 rounds=1
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu.sh: no CUDA device, or a torch without CUDA: --smoke tries the script out on a CPU" >&2
    exit 2
fi
rm -rf "$results"
mkdir -p "$results"

# In order of importance: if time runs out, the last ones are missing.
contenders=ours,http,plain,padded
peers=()
[ -n "${VLLM_PYTHON:-}" ] || ! has "$python" vllm || VLLM_PYTHON=$python
[ -n "${LM_EVAL_PYTHON:-}" ] || ! has "$python" lm_eval || LM_EVAL_PYTHON=$python
if [ -n "${VLLM_PYTHON:-}" ]; then
    contenders=ours,ours-vllm,http,plain,vllm,padded
fi
# Always given: the default is .venv-vllm, whose vLLM is a CPU build. If it is missing, the result records that.
vllm=(--vllm-python "$(path_of "${VLLM_PYTHON:-VLLM_PYTHON}")")
peers+=("${vllm[@]}")
if [ -n "${LM_EVAL_PYTHON:-}" ]; then
    contenders+=,lm-eval
    peers+=(--lm-eval-python "$(path_of "$LM_EVAL_PYTHON")")
fi

large_contenders=$contenders
[ -z "$smoke" ] || large_contenders=ours # the others have been tried by then

# part NAME SECONDS SCRIPT OPTION...: runs benchmarks.SCRIPT, with one model in memory at a time.
part() {
    local name=$1 seconds=$((patience * $2)) script=$3 left=$((limit - SECONDS)) status
    shift 3
    [ "$seconds" -le "$left" ] || seconds=$left
    if [ "$seconds" -lt 30 ]; then
        echo "no time was left" >"$results/$name.failed"
        return
    fi
    echo "== $name, at most $seconds s" >&2
    timeout --kill-after=15 "$seconds" "$python" -m "benchmarks.$script" --device "$device" --timeout $((patience * 120)) \
        --out "$results/$name.json" "${sizes[@]}" "$@" 2>&1 >&3 | tee "$results/$name.log" >&2
    status=${PIPESTATUS[0]}
    [ $status -eq 0 ] || echo "exit status $status: $(tail -n 1 "$results/$name.log")" >"$results/$name.failed"
}

scored() { part "$1" "$2" scoring --sequential "${peers[@]}" "${@:3}"; }
few=(--dtype bfloat16 --sets "$sets" --rounds "$rounds" --reference-sets 1)

part parity 200 parity --model "$middle" --dtype bfloat16 --sets "$sets" "${vllm[@]}"
scored "1-$small-float32" 80 --model "$small" --contenders "$contenders" --sets $((4 * sets)) --rounds "$rounds" --selection
scored "2-$middle-bfloat16" 90 --model "$middle" --contenders "$large_contenders" "${few[@]}"
scored "3-$large-bfloat16" 300 --model "$large" --contenders "$large_contenders" "${few[@]}"

"$python" - "$results" "$out" "${COMMIT:-$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)}" \
    "$SECONDS" "$0 $*" <<'PYTHON'
import datetime, json, pathlib, sys

folder, out, commit, seconds, command = pathlib.Path(sys.argv[1]), *sys.argv[2:]
parts, failed = {}, {}
for file in sorted(folder.glob("*.json")):
    try:
        parts[file.stem] = json.loads(file.read_text())
    except ValueError:  # it ended while it wrote
        failed[f"{file.stem}, result"] = "incomplete"
failed |= {file.stem: file.read_text().strip() for file in sorted(folder.glob("*.failed"))}
for name, part in parts.items():
    failed |= {f"{name}, {contender}": why for contender, why in part["failed"].items()}
result = {
    "command": f"bash {command}".strip(),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "device": next((part["device"] for part in parts.values()), "unknown"),
    "commit": commit,
    "seconds": int(seconds),
    "failed": failed,
    "parity": parts.pop("parity", None),
    "parts": parts,
}
pathlib.Path(out).write_text(json.dumps(result, indent=2) + "\n")
for name, why in failed.items():
    print(f"{name}: {why}")
print(f"{out}: parity and {len(parts)} other parts in {seconds} s, {len(failed)} failures")
sys.exit(bool(failed))
PYTHON
