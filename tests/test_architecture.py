"""The shape that docs/architecture.md promises: imports point downwards, heavy packages load late, files stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("cli",),
    ("api", "exchange"),
    ("experiments",),
    ("report",),
    ("blog", "finetune"),
    ("continuations",),
    ("reconstruct",),
    ("calibrate",),
    ("score", "simulate", "simulator"),
    ("explain",),
    ("lm",),
    ("latents",),
    ("coders",),
    ("subject", "corpus"),
    ("pipeline",),
    ("store",),
    ("assets", "metrics", "config", "progress", "log", "plugins", "base", "foreign", "errors"),
)
"""From top to bottom; packages of one row may import each other."""
RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}


def imports(path: Path) -> Iterator[str]:
    """Names of modules imported by a file, whether when it is loaded, later, or for the type checker alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def package_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nlsim" and len(parts) > 1 else None


@pytest.mark.parametrize("package", [p for p in RANK if (ROOT / "nlsim" / p).is_dir()])
def test_imports_point_downwards(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / "nlsim" / package).rglob("*.py")):
        for module in imports(path):
            imported = package_of(module)
            if imported is not None and imported != "config" and RANK[imported] < RANK[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_every_package_has_its_place() -> None:
    here = {
        p.name.removesuffix(".py")
        for p in (ROOT / "nlsim").iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert here - {"__init__"} == set(RANK)


def test_metrics_import_nothing_of_ours() -> None:
    ours = {
        module
        for path in (ROOT / "nlsim" / "metrics").glob("*.py")
        for module in imports(path)
        if package_of(module) not in (None, "metrics")
    }
    assert not ours


def test_the_pipeline_knows_no_stage_by_name() -> None:
    stages = {"explain", "score", "simulate", "calibrate", "reconstruct", "report", "latents", "corpus"}
    for path in (ROOT / "nlsim" / "pipeline").glob("*.py"):
        assert not {package_of(module) for module in imports(path)} & stages


def test_orchestration_knows_no_tensors_and_stages_know_no_kubernetes() -> None:
    for path in (ROOT / "argo").rglob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"torch", "numpy", "pyarrow", "transformers"}
    for path in (ROOT / "nlsim").rglob("*.py"):
        if "cli" not in path.parts:
            assert not {module.split(".")[0] for module in imports(path)} & {"kubernetes", "hera", "argo"}


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers', 'sae_lens', 'vllm', 'hera', 'kubernetes'):\n"
        "    sys.modules[name] = None\n"
        "from nlsim.config import load_config\n"
        "from nlsim.pipeline.plan import plan_config\n"
        "assert len(plan_config(load_config('configs/tiny.yaml').config)) >= 9\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_stay_readable() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for folder in ("nlsim", "argo", "bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    ]
    assert not long


def test_nothing_heavy_or_unsafe_is_shipped() -> None:
    files = [p for p in (ROOT / "nlsim").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    unsafe = [str(p) for p in files if p.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz")]
    assert not unsafe
    assert sum(p.stat().st_size for p in (ROOT / "nlsim" / "assets").rglob("*") if p.is_file()) < 30_000_000
