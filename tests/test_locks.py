"""Every dependency is pinned with hashes; each lock satisfies what pyproject.toml asks for; lists of components."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = sorted([ROOT / "requirements.lock", *ROOT.glob("images/*/requirements.lock")])
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)(?: ?; ?([^\\]+?))? ?\\$")
EXTRAS = {
    "cpu": {"cluster"},
    "model": {"model", "smollm2", "finetune", "datasets", "openai"},
    "vllm": {"vllm", "openai"},
}
LEFT_OUT = {"cpu": {"scikit-learn"}}
"""What images/lock.sh leaves out of an image, of what pyproject.toml names."""


def pins(lock: Path) -> dict[str, set[str]]:
    """Name → versions: several where the lock is for several Pythons. Asserts that every line is a pin with hashes."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[^ #\n])", "\n" + lock.read_text(encoding="utf-8").strip()):
        lines = [line for line in entry.splitlines() if line and not line.startswith("#")]
        if lines:
            match = PIN.match(lines[0])
            assert match, lines[0]
            assert len(lines) > 1
            assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:]), match[1]
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def wanted(extras: set[str]) -> list[Requirement]:
    """What pyproject.toml asks for with some extras, extras within extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, waiting = [], [*project["dependencies"], f"nlsim[{','.join(extras)}]"]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == "nlsim":
            waiting += [line for extra in requirement.extras for line in project["optional-dependencies"][extra]]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_is_whole_and_satisfies_the_project(lock: Path) -> None:
    image = lock.parent.name
    pinned = pins(lock)
    assert len(pinned) > 20
    for requirement in wanted(EXTRAS.get(image, {"dev"})):
        name = canonicalize_name(requirement.name)
        if name not in LEFT_OUT.get(image, set()):
            for version in pinned[name]:
                assert requirement.specifier.contains(Version(version), prereleases=True), requirement


def test_images_run_the_versions_that_are_tested() -> None:
    tested = pins(ROOT / "requirements.lock")
    for image in ("cpu", "model"):
        other = pins(ROOT / "images" / image / "requirements.lock")
        assert {name: found for name, found in other.items() if not found <= tested.get(name, found)} == {}


def test_lists_of_components(tmp_path: Path) -> None:
    """`make sbom`, where its tool has been fetched before: every pin is a component with its package URL."""
    (tool,) = re.findall(r"^CYCLONEDX := (\S+)$", (ROOT / "make" / "security.mk").read_text(), re.MULTILINE)
    uv = ROOT / ".venv" / "bin" / "uv"
    there = [uv, "tool", "run", "--offline", "--from", tool, "cyclonedx-py", "--version"]
    if not uv.exists() or subprocess.run(there, capture_output=True, check=False).returncode:
        pytest.skip("make sbom has fetched its tool nowhere here")
    words = ["make", "--no-print-directory", "sbom", "IMAGES=cpu", "UV_TOOL_FLAGS=--offline", f"SBOM={tmp_path}"]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    bom = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    assert bom["bomFormat"] == "CycloneDX"
    components = {canonicalize_name(part["name"]): part for part in bom["components"]}
    for name, (version,) in pins(ROOT / "images" / "cpu" / "requirements.lock").items():
        assert components[name]["purl"].startswith(f"pkg:pypi/{name}@{version}")


def test_what_an_image_must_not_hold(tmp_path: Path) -> None:
    """The look through an image (images/scan.py) sees what it is to see."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("scan", ROOT / "images" / "scan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    modes = {
        "usr/su": 0o4755,
        "usr/plain": 0o755,
        "usr/open": 0o666,
        "opt/mine": 0o644,
        "tmp/any": 0o777,
        "etc/g": 0o664,
    }
    for name, mode in modes.items():
        path = tmp_path / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.touch()
        path.chmod(mode)
    (tmp_path / "usr" / "link").symlink_to("plain")
    nobody, owner = 12_345, path.stat().st_uid
    found = {line.replace(str(tmp_path), "") for line in module.scan(tmp_path, nobody, {nobody})}
    assert found == {"set-uid or set-gid: /usr/su", "writable: /usr/open"}
    grouped = {line.replace(str(tmp_path), "") for line in module.scan(tmp_path, nobody, {path.stat().st_gid})}
    assert "writable: /etc/g" in grouped
    mine = {line.replace(str(tmp_path), "") for line in module.scan(tmp_path, owner, set())}
    assert {"writable: /opt/mine", "writable: /usr/plain", "writable: /opt"} <= mine
