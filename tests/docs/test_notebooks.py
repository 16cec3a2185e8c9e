"""The notebooks run from top to bottom on today's code, and print what is stored in them."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def executor() -> ModuleType:
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(
    notebook: Path,
    executor: ModuleType,
    tiny_run: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NLSIM_RUN", "NLSIM_CONFIG", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run[0], tmp_path / "runs" / "tiny")
    fresh = executor.execute(notebook, "runs/tiny")
    stored = executor.nbformat.read(notebook, as_version=4)
    assert [cell.source for cell in fresh.cells] == [cell.source for cell in stored.cells]
    for new, old in zip(fresh.cells, stored.cells, strict=True):
        if new.cell_type == "code":
            kinds = [[output.output_type for output in cell.outputs] for cell in (new, old)]
            assert kinds[0] == kinds[1], "run `make notebooks` and look at what changed"


def test_there_are_three_and_the_site_lists_them() -> None:
    site = (FOLDER.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    assert all(f"notebooks/{path.name}" in site for path in NOTEBOOKS)
