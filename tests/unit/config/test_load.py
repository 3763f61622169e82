import tomllib

import pytest

from payerseg.config.load import (
    load_config,
    preset_names,
    section_from_dict,
    section_to_dict,
    to_toml,
    with_overrides,
)
from payerseg.config.schema import GraphConfig, RunConfig, VertebraeLocalizationConfig
from payerseg.config.training import load_training_config
from payerseg.errors import ConfigError


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_resolves_and_survives_a_round_trip(preset):
    config = load_config(preset)
    assert section_from_dict(RunConfig, tomllib.loads(to_toml(config))) == config
    assert section_from_dict(RunConfig, section_to_dict(config)) == config


def test_a_written_configuration_can_be_read_whatever_is_in_its_texts():
    words = "".join(map(chr, [*range(1, 160), 0x2028, 0xFEFF, 0x1F9B4])) + "\"'\\#"
    config = with_overrides(RunConfig(), [f"driver.dicom_series={words}"])
    assert config.driver.dicom_series.strip() == words.strip()
    assert section_from_dict(RunConfig, tomllib.loads(to_toml(config))) == config


def test_default_preset_is_the_schema():
    assert load_config() == RunConfig()


def test_precedence_is_preset_file_set(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[spine_localization]\nthreshold = 0.4\nmemory_mb = 777\n")
    config = load_config("small_memory", file, ["spine_localization.threshold=0.6"])
    assert config.spine_localization.threshold == 0.6
    assert config.spine_localization.memory_mb == 777
    assert config.vertebrae_localization.memory_mb == 900


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("driver.device=cpu", "device", "cpu"),
        ("driver.device='gpu:1'", "device", "gpu:1"),
        ("driver.threads = 3", "threads", 3),
        ("driver.case_s=60", "case_s", 60.0),
    ],
)
def test_overrides_take_toml_values_and_bare_words(text, key, value):
    found = getattr(load_config(overrides=[text]).driver, key)
    assert found == value
    assert type(found) is type(value)


def test_nested_key_and_list():
    config = load_config(
        overrides=[
            "vertebrae_localization.graph.scale_low=0.6",
            "vertebrae_localization.tile_size_zyx=[64, 32, 32]",
        ]
    )
    assert config.vertebrae_localization.graph.scale_low == 0.6
    assert config.vertebrae_localization.tile_size_zyx == (64, 32, 32)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("spine_localization.treshold=1", "did you mean 'threshold'"),
        ("spine.threshold=1", "did you mean 'spine_localization'"),
        ("spine_localization.threshold=3", "0.01 to 0.99"),
        ("spine_localization.threshold=nan", "0.01 to 0.99"),
        ("spine_localization.threshold=true", "expected number"),
        ("spine_localization.threshold=abc", "expected number"),
        ("driver.threads=1.5", "expected whole number"),
        ("driver.backend=mxnet", "'tensorflow' or 'torch' or 'jax'"),
        ("vertebrae_localization.graph.scale_lo=1", "did you mean 'scale_low'"),
        ("vertebrae_localization.graph=3", "expected a table"),
        ("vertebrae_localization.tile_size_zyx=[1, 2]", "a list of 3"),
        ("vertebrae_localization.tile_size_zyx=[1, 2, 3]", "at least 16"),
        ("driver.silence_s=inf", "finite"),
        ("driver.silence_s=" + "9" * 5_000, "expected number"),
        ("driver.silence_s=" + "9" * 400, "expected number"),
        ("driver.threads=" + "[" * 10_000, "expected whole number"),
        ("driver.device=" + "[" * 400 + "]" * 400, "expected text"),
        ("threshold=0.4", "expected section.key=value"),
        ("driver.threads", "expected section.key=value"),
    ],
)
def test_a_wrong_override_says_what_was_expected(override, said):
    with pytest.raises(ConfigError, match=r"--set") as caught:
        load_config(overrides=[override])
    assert said in str(caught.value)


def test_a_wrong_file_is_named(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[spine_localization]\ntreshold = 0.4\n")
    with pytest.raises(
        ConfigError,
        match=r"unknown key 'treshold' in \[spine_localization\] of .*my\.toml; did you",
    ):
        load_config(file=file)
    file.write_text("not toml at all")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(file=file)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(file=tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "[[[",
        "[driver]\nsilence_s = " + "9" * 100_000,
        "x = " + "{a=" * 20_000,
        "a." * 1_000 + "b = 1",
        "caf\xe9".encode("latin-1"),
    ],
)
def test_a_hostile_file_is_named(tmp_path, text):
    file = tmp_path / "my.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"my\.toml") as caught:
        load_config(file=file)
    assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError):
        load_training_config(file)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'small_memory'"):
        load_config("small_memry")


def test_sections_compare_by_value():
    assert (
        VertebraeLocalizationConfig(graph=GraphConfig(scale_low=0.5))
        == VertebraeLocalizationConfig()
    )
