"""The documentation: every page is on the site, links lead somewhere, what it names exists."""

import importlib
import re
from pathlib import Path

import pytest

from nlsim.cli.main import COMMANDS
from nlsim.config import Config

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_every_page_is_on_the_site() -> None:
    listed = set(re.findall(r"[\w/-]+\.(?:md|ipynb)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {path.name for path in PAGES} <= listed
    assert all((ROOT / "docs" / name).is_file() for name in listed)


@pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_names_what_exists() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for block in re.findall(r"::: (\S+)(?:\n    options: \{members: \[(.+)\]\})?", text):
        name, members = block
        module, _, last = name.rpartition(".")
        found = importlib.import_module(name) if last.islower() else getattr(importlib.import_module(module), last)
        for member in filter(None, members.split(", ")):
            assert hasattr(found, member), f"{name} has no {member}"
            assert getattr(found, member).__doc__, f"{name}.{member} says nothing of itself"


def test_commands_in_the_documentation_exist() -> None:
    for page in PAGES:
        for command in re.findall(r"`nlsim ([a-z][a-z-]+)", page.read_text(encoding="utf-8")):
            assert command in COMMANDS, f"{page.name} names nlsim {command}"


def test_settings_in_the_documentation_of_coders_exist() -> None:
    text = (ROOT / "docs" / "coders.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:coder|corpus|cache|latents|lm|explain)\.[a-z_.]+)`", text):
        section, *rest = path.split(".")
        model = Config.model_fields[section].annotation
        assert rest[0] in model.model_fields, path  # type: ignore[union-attr]
