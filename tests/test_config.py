"""Configuration files: errors that name the nearest key, overrides, sources, round trips."""

from pathlib import Path

import pytest
import yaml

from nlsim.config import Config, leaves, load_config, parse_config
from nlsim.errors import UsageError

SMALL = {"name": "small", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}}


def write(folder: Path, data: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_every_shipped_configuration_is_valid() -> None:
    paths = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
    assert {"tiny.yaml", "demo.yaml", "article.yaml", "smollm2.yaml"} <= {path.name for path in paths}
    for path in paths:
        assert load_config(path).config.name == path.stem


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("subjekt", "did you mean subject"),
        ("simulate.position", "did you mean positions"),
        ("coder.pth", "did you mean path"),
        ("corpus.zzzzz", "known: "),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, key: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as error:
        load_config(write(tmp_path, SMALL), [f"{key}=1"])
    assert key in str(error.value)


def test_a_wrong_value_says_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seed: .*greater than or equal to 0 \(got -1\)"):
        load_config(write(tmp_path, SMALL), ["seed=-1"])
    with pytest.raises(UsageError, match=r"subject: field required"):
        load_config(write(tmp_path, {"coder": SMALL["coder"]}))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_without_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match="no settings"):
        load_config(tmp_path / "x.yaml")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the configuration"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1, 2")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read the configuration"):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize("override", ["seed", "=3", "seed=[1"])
def test_a_malformed_override(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_config(write(tmp_path, SMALL), [override])


def test_sources_tell_file_override_and_default_apart(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, SMALL), ["seed=3"])
    assert loaded.config.seed == 3
    assert loaded.sources["seed"] == "--set"
    assert loaded.sources["subject.model"] == "file"
    assert loaded.sources["experiment"] == "default"
    assert set(loaded.sources) == {path for path, _ in leaves(loaded.config.model_dump(mode="json"))}


def test_a_word_that_stands_for_a_section_is_its_source(tmp_path: Path) -> None:
    path = tmp_path / "word.yaml"
    path.write_text("subject: {}\ncoder: {}\ncorpus: {source: builtin}\n", encoding="utf-8")
    assert load_config(path).sources["corpus.source.kind"] == "file"
    path.write_text("subject: {}\ncoder: {}\ncorpus: {source: {kind: files, paths: [a]}}\n", encoding="utf-8")
    assert load_config(path).sources["corpus.source.kind"] == "file"
    assert load_config(path, ["corpus.source=builtin"]).sources["corpus.source.kind"] == "--set"


def test_the_resolved_configuration_parses_back_to_itself(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, SMALL), ["seed=3"]).config
    again = parse_config(yaml.safe_load(config.to_yaml()))
    assert again == config
    assert again.to_yaml() == config.to_yaml()


def test_configurations_that_differ_only_in_speed_are_equal() -> None:
    config = parse_config(SMALL)
    slower = parse_config({**SMALL, "subject": {"model": "nlsim:tiny", "device": "cpu"}})
    assert config == slower
    assert config != config.model_copy(update={"seed": 1})
    assert config.differences(config.model_copy(update={"seed": 1})) == ["seed"]


def test_the_schema_describes_every_field() -> None:
    schema = Config.model_json_schema()
    undescribed = [
        f"{name}.{key}"
        for name, model in schema["$defs"].items()
        for key, field in model.get("properties", {}).items()
        if "description" not in field
    ]
    assert not undescribed
    assert schema["additionalProperties"] is False
