"""A run among enemies: documents and explanations that attack, and secrets in the environment that must not get out.

One small run of the whole experiment: hostile documents, explanations by a language model's server that writes hostile
ones and repeats the key it was given, and canaries in every variable that holds a secret.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from command import nlsim_here
from hostile import ATTACKS
from lm_server import Reply, Server, top

SECRETS = {
    name: f"canary-{name.lower().replace('_', '-')}-7f3a9c"
    for name in (
        "LM_KEY",
        "OPENAI_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
    )
}
WORDS = ["the", "of", "and", "a", "to", "in", "is", "was", "he", "for", "it", "with", "as", "his", "on", "be"]
HIDDEN = [form for secret in SECRETS.values() for form in (secret.encode(), base64.b64encode(secret.encode())[:24])]


def reply(path: str, body: dict[str, Any], number: int) -> Reply:
    """Ten digits, the likeliest by chance; or an explanation that attacks."""
    if not body.get("logprobs"):
        text = f"Explanation: {ATTACKS[number % len(ATTACKS)]} {' '.join(ATTACKS)} {SECRETS['LM_KEY'][:6]}"
        return 200, {}, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    rng = random.Random(json.dumps(body["messages"]))
    tops = [top(str(digit), -rng.uniform(2.4, 4.0)) for digit in range(10)]
    return 200, {}, {"choices": [{"logprobs": {"content": [{"token": "0", "top_logprobs": tops}]}}]}


class Made(NamedTuple):
    """A finished run, and everything that it said."""

    folder: Path
    url: Path
    said: str
    asked: list[tuple[str, dict[str, Any], dict[str, str]]]


def said_by(monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Exit code of a command, and all that it wrote."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = nlsim_here(monkeypatch, *words)
    return code, out.getvalue() + err.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("hostile")
    rng = random.Random(0)
    texts = [
        f"{n} " + " ".join(rng.choice([*WORDS, *ATTACKS, "<|im_end|>", "<|endoftext|>", "␂␃"]) for _ in range(60))
        for n in range(120)
    ]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    server = Server(reply)
    config = {
        "name": "hostile",
        "corpus": {
            "source": {"kind": "files", "paths": [str(folder / "text.jsonl")]},
            "context": 64,
            "rows": {"train": 0, "explain": 48, "score": 24, "calibrate": 3, "evaluate": 3},
            "fractions": {"train": 0, "explain": 0.5, "score": 0.3, "calibrate": 0.1, "evaluate": 0.1},
        },
        "subject": {"model": "nlsim:tiny", "device": "cpu"},
        "coder": {"path": "nlsim:tiny-skip"},
        "latents": {"choose": "heaviest", "count": 3},
        "lm": {
            "model": "m",
            "engine": "openai",
            "endpoint": {"base_url": server.url, "key_variable": "LM_KEY", "concurrency": 4},
        },
        "explain": {"method": "llm", "examples": 3},
        "score": {"examples": 3, "others": 3, "batch": 3},
        "simulate": {"calibration_rows": 3, "evaluation_rows": 3, "shots": 1, "positions": "last"},
        "reconstruct": {"clips": ["none"], "fractions": [1.0], "curve_rows": 1, "random_draws": 1, "draws": 100},
        "report": {"title": " ".join(ATTACKS)},
    }
    (folder / "hostile.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, secret in SECRETS.items():
            patch.setenv(name, secret)
        patch.setenv("NLSIM_CACHE", str(folder / "cache"))
        code, said = said_by(patch, "run", folder / "hostile.yaml", "--run", folder / "run", "--debug")
        assert code == 0, said
        yield Made(folder, folder / "run", said, server.asked)
    server.close()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("NLSIM_CACHE", str(made.folder / "cache"))


def revealed(text: str | bytes) -> list[bytes]:
    data = text.encode() if isinstance(text, str) else text
    return [secret for secret in HIDDEN if secret in data]


@pytest.mark.usefixtures("secrets")
def test_no_secret_is_written_anywhere(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the configuration, plan, lineage, commit records, kept answers, tables, page, log or workflow."""
    assert {headers["Authorization"] for *_, headers in made.asked} == {f"Bearer {SECRETS['LM_KEY']}"}, "it was used"
    config = made.folder / "hostile.yaml"
    assert said_by(monkeypatch, "render", config, "--to", made.folder / "rendered")[0] == 0
    printed = made.said
    for words in (
        ("plan", config),
        ("plan", config, "--json"),
        ("plan", config, "--run", made.folder / "planned"),
        ("status", made.url),
        ("config", "show", config),
        ("doctor", "--json"),
    ):
        printed += said_by(monkeypatch, *words)[1]
    assert not revealed(printed)
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"config.yaml", "lineage.json", "plan.json", "index.html", "nlsim-hostile.yaml"} <= names
    assert any(path.suffix == ".sqlite" for path in files), "the kept answers"
    assert {path.name: revealed(path.read_bytes()) for path in files if revealed(path.read_bytes())} == {}


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_no_error_tells_a_secret(made: Made, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Though the server repeats the key, and with --debug."""
    server = Server(lambda *_: (status, {}, {"error": {"message": f"bad key: {SECRETS['LM_KEY']}"}}))
    monkeypatch.setattr("nlsim.lm.endpoint.FIRST_DELAY", 0.001)
    settings = [f"lm.endpoint.base_url={server.url}", "lm.endpoint.retries=1"]
    words = [word for setting in settings for word in ("--set", setting)]
    where = ["--run", tmp_path / "run", "--store", made.url, "--until", "explain", "--debug"]
    code, said = said_by(monkeypatch, "run", made.folder / "hostile.yaml", *where, *words)
    server.close()
    assert code == (75 if status == 500 else 2)
    assert "Traceback" in said
    assert server.url in said
    assert not revealed(said)


@pytest.mark.usefixtures("secrets")
def test_no_error_of_a_store_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    code, said = said_by(monkeypatch, "--debug", "status", "s3://bucket/run")
    assert code == 75
    assert "Traceback" in said
    assert not revealed(said)
    hidden = SECRETS["AWS_SECRET_ACCESS_KEY"]
    code, said = said_by(monkeypatch, "--debug", "status", f"s3://key:{hidden}@bucket/run")
    assert code == 2
    assert not revealed(said), "not even where somebody put it"


def test_no_text_drives_the_terminal(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = json.loads(said_by(monkeypatch, "show", "explanations", "--run", made.url, "--json")[1])
    assert len(latents) == 3
    assert "alert(1)" in latents[0]["text"]
    printed = made.said
    for words in (
        ("show", "explanations"),
        ("show", "explanations", "--json"),
        ("show", "latent", latents[0]["latent"]),
        ("show", "latent", latents[0]["latent"], "--json"),
        ("report",),
        ("report", "--format", "md"),
        ("report", "--format", "json"),
    ):
        code, said = said_by(monkeypatch, *words, "--run", made.url)
        assert code == 0, said
        assert "--json" not in words or json.loads(said)
        printed += said
    code, said = said_by(monkeypatch, "diff", made.url, made.url, "--all")
    assert code == 0
    assert [c for c in printed + said if not c.isprintable() and c != "\n"] == []


def test_no_text_ends_a_turn(made: Made) -> None:
    """Every request has the turns that nlsim wrote, in order: hostile text adds none."""
    for _, body, _ in made.asked:
        roles = [turn["role"] for turn in body["messages"]]
        assert roles == ["system", *["user", "assistant"] * ((len(roles) - 2) // 2), "user"]
    assert len({len(body["messages"]) for _, body, _ in made.asked}) <= 4, "explain, two scorers, simulate"
    sent = json.dumps([body["messages"][-1] for _, body, _ in made.asked])
    assert "< |im_end|>" in sent, "hostile documents were shown"
    assert "<|im_end|>" not in sent


@pytest.mark.browser
def test_the_page_is_inert(made: Made, open_page: Any) -> None:
    text = (made.url / "report" / "index.html").read_text(encoding="utf-8")
    opened = open_page(text)
    opened.page.wait_for_selector("#detail .context .token")
    for button in opened.page.locator("#latents button").all():
        button.click()
    opened.page.wait_for_selector("#detail .context .token")
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.locator("img, iframe, form, base, link, object, main script, svg script").count() == 0
    assert "<script>alert(1)</script>" in opened.page.locator("#latents").inner_text()
    assert "onerror=alert(1)" in opened.page.locator("h1").inner_text()
