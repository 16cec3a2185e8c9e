"""No data is run as code: no pickles, no code of a model's repository, no unsafe loader, no shell."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nlsim.errors import DataError
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject
from nlsim.subject.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]


def calls() -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Place, dotted name and keywords of every call in our packages."""
    for path in sorted([*(ROOT / "nlsim").rglob("*.py"), *(ROOT / "argo").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield where, ast.unparse(node.func), {word.arg or "**": word.value for word in node.keywords}


def says(value: ast.expr | None, wanted: object) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


NEVER = {
    *("eval", "exec", "compile", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "joblib.load"),
    *("yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "subprocess.getoutput", "pandas.read_pickle"),
}


def test_nothing_is_loaded_that_could_be_code() -> None:
    wrong = []
    for where, name, words in calls():
        last = name.rpartition(".")[2]
        unsafe = (
            name in NEVER
            or (name == "torch.load" and not says(words.get("weights_only"), True))
            or (name in ("np.load", "numpy.load") and not says(words.get("allow_pickle"), False))
            or (last == "from_pretrained" and not says(words.get("trust_remote_code"), False)
                and not name.startswith(("sae_class", "PeftModel")))
            or ("trust_remote_code" in words and not says(words["trust_remote_code"], False))
            or ("shell" in words and not says(words["shell"], False))
        )  # fmt: skip
        if unsafe:
            wrong.append(f"{where} {name}")
    assert wrong == []


RUNS = "import pathlib; pathlib.Path({mark!r}).touch()\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "nlsim" / "assets" / "tiny", tmp_path / "tiny"))


def test_a_models_own_code_is_not_run(model: Path, tmp_path: Path) -> None:
    """A configuration that names classes in files beside it: refused, nobody is asked, nothing is imported."""
    mark = tmp_path / "ran"
    (model / "evil.py").write_text(RUNS.format(mark=str(mark)))
    classes = {"AutoConfig": "evil.A", "AutoModelForCausalLM": "evil.B", "AutoTokenizer": ["evil.C", "evil.D"]}
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((model / name).read_text(encoding="utf-8"))
        settings |= {"auto_map": classes, "tokenizer_class": "C"} | ({"model_type": "evil"} if name[0] == "c" else {})
        (model / name).write_text(json.dumps(settings))
    with pytest.raises(DataError):
        Subject.load(SubjectConfig(model=str(model), device="cpu"))
    load_tokenizer_quietly(model)
    assert not mark.exists()


def load_tokenizer_quietly(model: Path) -> None:
    try:
        load_tokenizer(SubjectConfig(model=str(model)))
    except DataError:
        return


class Runs:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_pickled_weights_of_a_model_are_not_run(model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Runs(mark)}, protocol=2))
    with pytest.raises(DataError):
        Subject.load(SubjectConfig(model=str(model), device="cpu"))
    assert not mark.exists()
