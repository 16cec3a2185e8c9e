#!/usr/bin/env bash
# smoke.sh DOCKER IMAGE: the image works as a cluster runs it, and vLLM and its server's command are there. No GPU needed, which `vllm --version` asks for.
set -euo pipefail
docker=$1 image=$2
run() { "$docker" run --rm --read-only --tmpfs /tmp:mode=1777 --network none --cap-drop ALL --security-opt no-new-privileges "$@"; }
run "$image" --version
run "$image" doctor
run --entrypoint python "$image" -c 'import os, shutil; from vllm import LLM, SamplingParams; assert shutil.which("vllm"); assert os.getuid() == 10001'
echo "$image is in order"
