"""Run in the environment of vLLM: answer the prompts of a JSON file with engine `vllm`, as JSON on the last line."""

import json
import sys
from pathlib import Path

import numpy as np

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Sampling
from nlsim.lm.prompts import PromptTree, leaf
from nlsim.lm.vllm import VllmEngine


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    engine = VllmEngine(LmConfig.model_validate(asked["config"]))
    nothing = np.empty(0, dtype=np.int64)
    trees = [
        PromptTree(prefix, nothing, tuple(leaf(tokens, reads) for tokens, reads in leaves))
        for prefix, leaves in asked["trees"]
    ]
    found = [choices.logprobs_RC.tolist() for choices in engine.choose(trees, asked["choices"])]
    prompts = [np.asarray(prompt) for prompt in asked["prompts"]]
    written = [list(one) for one in engine.generate(prompts, Sampling(8))]
    facts = engine.facts()
    engine.close()
    print(json.dumps({"logprobs": found, "written": written, "facts": facts}))  # noqa: T201


if __name__ == "__main__":
    main()
