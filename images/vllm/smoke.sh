#!/usr/bin/env bash
# smoke.sh DOCKER IMAGE: the image works as a cluster runs it, and vLLM and its server's command are there. No GPU needed.
set -euo pipefail
docker=$1 image=$2
run() { "$docker" run --rm --read-only --tmpfs /tmp:mode=1777 --network none --cap-drop ALL --security-opt no-new-privileges "$@"; }
run "$image" --version
run "$image" doctor
run --entrypoint python "$image" -c 'import importlib.metadata, os, torch; importlib.metadata.version("vllm"); assert os.getuid() == 10001'
run --entrypoint vllm "$image" --version
echo "$image is in order"
