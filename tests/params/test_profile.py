import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import complete, load_params, load_profile, use_profile, write_complete

PROFILES = Path(__file__).parents[2] / "profiles"
OLD = PROFILES.parent / "tests" / "fuzz" / "seeds" / "profile"
NAMES = sorted(path.stem for path in PROFILES.glob("*.yaml"))


def leaves(content: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to each value of nested dictionaries."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*keys, key))
        else:
            yield (*keys, key)


def changed(tmp_path: Path, name: str, keys: tuple[str, ...], *value: Any) -> Path:
    """A folder with the profile `name` in which one value is changed, or taken out where none is given."""
    content = copy.deepcopy(yaml.safe_load((PROFILES / f"{name}.yaml").read_text()))
    section = content
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    if value:
        section[keys[-1]] = value[0]
    else:
        del section[keys[-1]]
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_the_profiles_that_ship_are_there() -> None:
    assert {"bundled", "dummy", "paper", "stress", "synthetic-large"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_says_only_what_differs_from_the_defaults(name: str, tmp_path: Path) -> None:
    text = (PROFILES / f"{name}.yaml").read_text()
    assert text.count("\n") <= (25 if name == "bundled" else 45)
    whole = load_profile(name, PROFILES)
    for keys in leaves(yaml.safe_load(text)):
        try:
            assert load_profile(name, changed(tmp_path, name, keys)) != whole, keys
        except UserError as error:
            assert "missing" in str(error)  # noqa: PT017


@pytest.mark.parametrize("path", sorted(OLD.iterdir()), ids=lambda path: path.name)
def test_an_old_complete_profile_means_what_it_did(path: Path, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(path.read_text())
    old = load_profile("old", tmp_path)
    assert old.model_dump() == complete(old).model_dump() == yaml.safe_load(path.read_text())


def test_the_complete_profile_is_a_profile(tmp_path: Path) -> None:
    whole = complete(load_profile("ladder", PROFILES))
    write_complete(whole, ["ladder.own_loop", "fused", "fused"], tmp_path)
    assert load_profile("profile", tmp_path) == whole
    settings = yaml.safe_load((tmp_path / "engines.yaml").read_text())
    measure = whole.model_dump(mode="json")["measure"]
    assert settings == {key: measure[key] for key in ("baseline", "ladder", "fused")}


@pytest.mark.parametrize("keys", [("data",), ("model",), ("data", "source"), ("model", "name")], ids=str)
def test_what_has_no_default_must_be_there(keys: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{'[.]'.join(keys)} is missing: add it\."):
        load_profile("bundled", changed(tmp_path, "bundled", keys))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("generation", "num_beams"), 0),
        (("generation", "num_beams"), 17),
        (("generation", "num_beams"), "five"),
        (("generation", "max_length"), 449),
        (("generation", "min_length"), -1),
        (("generation", "length_penalty"), float("nan")),
        (("generation", "early_stopping"), "sometimes"),
        (("generation", "task"), "summarise"),
        (("measure", "device"), "tpu"),
        (("measure", "threads"), 0),
        (("measure", "warmup"), 0),
        (("measure", "repeats"), 0),
        (("measure", "baseline", "precision"), "int8"),
        (("measure", "fused", "precision"), "autocast"),
        (("measure", "fused_int8", "precision"), "int8"),
        (("measure", "fused_fp8", "precision"), "autocast"),
        (("measure", "kernl", "precision"), "double"),
        (("measure", "kernl_upstream", "python"), ""),
        (("measure", "kernl_phantom", "precision"), "autocast"),
        (("measure", "yardstick"), []),
        (("measure", "yardstick"), ["again", "eager", "again"]),
        (("measure", "compiled", "precision"), "autocast"),
        (("measure", "ctranslate2_int8", "patience"), 0),
        (("report", "title"), ""),
        (("model", "name"), "huge"),
        (("data", "clips"), []),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_one_sentence(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    with pytest.raises(UserError) as refused:
        load_profile("bundled", changed(tmp_path, "bundled", keys, value))
    sentence = str(refused.value)
    assert sentence.startswith(f"{tmp_path / 'bundled.yaml'}: {'.'.join(keys)} is {value!r}, but ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("variant", ["int8", "threads_0", "threads_1000", "threads_two", "Again", "again "])
def test_an_unknown_variant_lists_the_known_ones(tmp_path: Path, variant: str) -> None:
    with pytest.raises(UserError, match=rf"measure\.yardstick\.1 is {variant!r}, but .*again\|eager.*threads"):
        load_profile("bundled", changed(tmp_path, "bundled", ("measure", "yardstick"), ["again", variant]))


@pytest.mark.parametrize(
    "keys",
    [("beams",), ("data", "beams"), ("measure", "fsued"), ("measure", "huggingface"), ("measure", "baseline", "beams")],
    ids=str,
)
def test_an_unknown_key_is_named(tmp_path: Path, keys: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=f"unknown key {'[.]'.join(keys)}: remove it"):
        load_profile("bundled", changed(tmp_path, "bundled", keys, 1))


def test_an_unknown_source_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source is 'tape': choose one of .*samples.*librispeech.*folder"):
        load_profile("bundled", changed(tmp_path, "bundled", ("data", "source"), "tape"))


@pytest.mark.parametrize("name", ["papr", "../profiles/bundled", "", "bundled/", ".hidden", "a\nb"])
def test_an_unknown_profile_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"choose one of {', '.join(NAMES)}, or write")):
        load_profile(name, PROFILES)


def test_use_profile_changes_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("# about profile: x\nprofile: bundled # why\nengines: [fused]\n")
    use_profile("paper", path, PROFILES)
    assert path.read_text() == "# about profile: x\nprofile: paper\nengines: [fused]\n"
    assert load_params(path).profile == "paper"
    with pytest.raises(UserError, match="no profile 'papr'"):
        use_profile("papr", path, PROFILES)
    assert load_params(path).profile == "paper"


@pytest.mark.parametrize(
    "engines", ["engines:\n  - fused # ours\n  - kernl\n", "engines:\n- fused\n\n- kernl", "engines: [fused, kernl]\n"]
)
def test_use_profile_brings_the_profiles_engines(tmp_path: Path, engines: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"profile: paper\n{engines}")
    use_profile("ladder", path, PROFILES)
    assert load_params(path).engines == load_profile("ladder", PROFILES).engines
    use_profile("bundled", path, PROFILES)
    assert path.read_text().strip() == "profile: bundled\nengines:\n  - fused"


def test_engines_that_it_cannot_replace_stay(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content := "profile: bundled\nengines: [kernl,\n  fused]\n")
    with pytest.raises(UserError, match="in a form that cannot be replaced"):
        use_profile("ladder", path, PROFILES)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("ladder", "match"),
    [
        ({"a": ["kernels"]}, "rung a has kernels without shared_cross_attention, which it needs"),
        ({"a": ["shared_cross_attention", "ancestry", "step_graph"]}, "step_graph without packed_weights"),
        ({"a": ["ancestry"], "b": [], "c": ["ancestry"]}, "rungs a and c are the same"),
        ({"a": ["rubber"]}, r"measure\.ladder\.a\.0 is 'rubber'"),
        ({"a b": []}, "ladder"),
    ],
)
def test_a_ladder_that_cannot_be_climbed(tmp_path: Path, ladder: dict[str, list[str]], match: str) -> None:
    with pytest.raises(UserError, match=match) as refused:
        load_profile("bundled", changed(tmp_path, "bundled", ("measure", "ladder"), ladder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", ["{profile: bundled, engines: [fused]}\n", "'profile': bundled\nengines: [fused]\n"]
)
def test_use_profile_refuses_a_line_that_it_cannot_find(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match="0 lines that begin with profile:"):
        use_profile("paper", path, PROFILES)
    assert path.read_text() == content


@pytest.mark.parametrize("engines", ["[]", "[fsued]", "fused", "[huggingface]", "[ladder.]", "[ladder.a b]"])
def test_engines_that_are_none(tmp_path: Path, engines: str) -> None:
    (tmp_path / "params.yaml").write_text(f"profile: bundled\nengines: {engines}\n")
    with pytest.raises(UserError, match="engines"):
        load_params(tmp_path / "params.yaml")
