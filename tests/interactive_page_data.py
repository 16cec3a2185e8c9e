"""A small page of continuations with everything that it can show, hostile text included."""

from __future__ import annotations

from typing import Any

from report_story import HOSTILE

from nlsim.report.embed import chunk
from nlsim.report.interactive import summary
from nlsim.report.interactive_page import Kind, Page

BEGUN, WRITTEN, KINDS = 5, 14, ("quantiles", "top")
WORDS = [" the", " function", " returns", " a", " list", " of", *HOSTILE]
LABELS = ["clean", "coder", "help:quantiles", "help:top", "none", "random:0.3", "random:0.7", "simulated:quantiles",
          "simulated:top", "top:0.3", "top:0.7"]  # fmt: skip
KL = {"clean": 0.0, "coder": 0.004, "none": 4.2, "top:0.7": 0.02, "top:0.3": 0.2, "random:0.7": 0.5, "random:0.3": 1.8}


def prompt(number: int, active: int) -> dict[str, Any]:
    """Text 0, and one of its own for every condition that chooses another token; `active` latents at each token."""
    length = BEGUN + WRITTEN
    ids = [0, *((number + 3 * t) % len(WORDS) for t in range(1, length))]

    def steps(label: str, text: list[int]) -> dict[str, Any]:
        kl = KL.get(label, 0.08)
        chosen = [token if kl * (t % 5) < 0.5 else (token + 1) % len(WORDS) for t, token in enumerate(text[1:])]
        likeliest = [[token, (token + 1) % len(WORDS), (token + 2) % len(WORDS)] for token in chosen]
        return {
            "kl": [0.0 if t == 0 else round(kl * (0.2 + t % 4), 4) for t in range(len(chosen))],
            "chosen": chosen,
            "given": [0.5] * len(chosen),
            "likeliest": likeliest,
            "probability": [[0.61, 0.2, 0.04]] * len(chosen),
        }

    forced = {label: steps(label, ids) for label in LABELS}
    texts, by_text, free = [ids], [forced], {}
    for label in LABELS[1:]:
        chosen = forced[label]["chosen"]
        first = next((t for t in range(BEGUN, length) if chosen[t - 1] != ids[t]), None)
        free[label] = 0
        if first is not None:
            mine = [*ids[:first], chosen[first - 1], *((t * 5) % len(WORDS) for t in range(first + 1, length - 2))]
            free[label] = len(texts)
            texts.append(mine)
            by_text.append({"clean": steps("clean", mine), label: steps(label, mine)})
    kinds = {label: label.partition(":")[2] for label in LABELS if label.partition(":")[2] in KINDS}
    codes = [[[[(7 * s + i) % 1200, round(9 / (i + 1), 3), (5 * i + s) % active] for i in range(active if s else 0)]
              for s in range(len(text) - 1)] for text in texts]  # fmt: skip
    said: list[dict[str, Any]] = []
    for text, code in enumerate(codes):
        mine = (
            KINDS
            if text == 0
            else tuple({kinds[label] for label, own in free.items() if own == text and label in kinds})
        )
        said.append({kind: [predictions(step, kind) for step in code] for kind in mine})
    return {
        "source": f"document <{number}>",
        "begun": BEGUN,
        "latents": 1200,
        "width": 1200,
        "free": free,
        "conditions": LABELS,
        "texts": [["", *(WORDS[token] for token in text[1:])] for text in texts],
        "ids": texts,
        "words": {str(token): word for token, word in enumerate(WORDS)},
        "steps": by_text,
        "active": codes,
        "said": said,
    }


def predictions(active: list[list[Any]], kind: str) -> dict[str, Any]:
    """Every second active latent is found, every fifth has no explanation, and one silent one is a false alarm."""
    if not active:
        return {"counts": [0, 0, 0, 0, 0], "latents": []}
    asked = [(i, latent, value) for i, (latent, value, _) in enumerate(active) if i % 5 != 4]
    found = [i for i, *_ in asked if i % 2 == (kind == "top")]
    latents = [[latent, 0.9 if i in found else 0.1, round(value * 0.8, 3)] for i, latent, value in asked]
    counts = [1190 + len(asked), len(found), len(asked) - len(found), len(active) - len(asked), 3]
    return {"counts": counts, "latents": [*latents, [1199, 0.7, 0.4]]}


def page(prompts: int = 2, active: int = 12) -> Page:
    """A page of some prompts."""
    records = [prompt(number, active) for number in range(prompts)]
    values = [99 if i % 3 == 0 else 0 for i in range(len(HOSTILE))]
    context = {"max": 4.5, "tokens": HOSTILE, "values": values}
    score = {"name": "detection", "value": 0.8, "low": 0.7, "high": 0.9, "n": 40, "failed": 0}
    latents = {
        str(latent): {
            "density": 0.01,
            "max": 9.0,
            "scores": {"quantiles": [score]},
            "top": [context] * 2,
            "quantiles": [context],
        }
        for latent in range(1000)
    }
    chunks = [(list(range(start, start + 250)), chunk({k: latents[k] for k in map(str, range(start, start + 250))}))
              for start in range(0, 1000, 250)]  # fmt: skip
    texts = {
        latent: f"{HOSTILE[latent % len(HOSTILE)][:40]} explanation {latent}"
        for latent in range(1200)
        if latent % 5 != 4
    }
    return Page(
        title="A <tiny> run: continuations",
        subject="tiny <model>",
        found_at=0.5,
        temperature=0.0,
        kinds=[Kind("quantiles", "llm explanations <b>"), Kind("top", "lexical explanations")],
        prompts=records,
        explanations={"quantiles": texts, "top": {latent: f"top {text}" for latent, text in texts.items()}},
        chunks=chunks,
        summary=summary(records),
        provenance={"run": "tiny & small"},
        config="name: tiny\n",
    )
