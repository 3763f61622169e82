"""The command: options, names, and the words it shares with the library."""

import json

import pytest
from click.testing import CliRunner

from payerseg.cli import synthesize as command
from payerseg.errors import DatasetError, UsageError
from payerseg.synthesis import library, scans


def run(*arguments):
    done = CliRunner().invoke(
        command.synthesize, [str(a) for a in arguments], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_words_are_the_librarys():
    assert command.VARIANTS == library.VARIANTS
    assert command.NEGATIVES == scans.NEGATIVES


def test_phantoms_take_turns_and_are_resumed(tmp_path):
    arguments = [tmp_path, "--phantom", "--count", 2, "--spacing", 6]
    arguments += ["--variant", "usual", "--variant", "air"]
    assert "1/2 synth_usual_body_000000\n" in run(*arguments)
    assert (tmp_path / "images" / "synth_air_body_000001.nii.gz").is_file()
    assert "(there already)" in run(*arguments)


@pytest.mark.parametrize("extra", [[], ["--phantom", "--labels", "."]])
def test_shapes_come_from_one_place(tmp_path, extra):
    with pytest.raises(UsageError, match="either --labels"):
        run(tmp_path, *extra)


def test_every_shape_is_named_with_its_licence(tmp_path):
    table = tmp_path / "who.csv"
    table.write_text("name,source,licence\nphantom,Our own numbers,Apache-2.0\n")
    run(tmp_path / "a", "--phantom", "--spacing", 6, "--catalog", table)
    run(tmp_path / "b", "--phantom", "--spacing", 6)
    facts = {n: json.loads((tmp_path / n / "cases.json").read_text()).popitem()[1] for n in "ab"}
    assert (facts["a"]["source"], facts["a"]["licence"]) == ("Our own numbers", "Apache-2.0")
    assert (facts["b"]["source"], facts["b"]["licence"]) == ("phantom", "")


def test_a_catalogue_without_licences_is_refused(tmp_path):
    table = tmp_path / "who.csv"
    table.write_text("name,source\nphantom,Our own numbers\n")
    with pytest.raises(DatasetError, match="licence"):
        run(tmp_path / "a", "--phantom", "--catalog", table)
