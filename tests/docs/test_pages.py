"""Every command has help and is in the README; every setting is in docs/config.md; examples run."""

import ast
import re
from importlib.util import find_spec

import click
import pytest

from payerseg.cli.app import COMMANDS, load_command, payerseg
from payerseg.cli.config import config_page, every_option
from payerseg.config.load import preset_names

PRESENT = [n for n, (place, _) in COMMANDS.items() if find_spec(place.partition(":")[0])]


def read(repository, name):
    return (repository / name).read_text(encoding="utf-8")


def commands_below(command, path):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands_below(command.get_command(context, name), f"{path} {name}")


@pytest.mark.parametrize("name", PRESENT)
def test_every_command_and_option_has_help(name):
    for path, command in commands_below(load_command(name), name):
        assert command.help, f"payerseg {path} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"payerseg {path} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("name", PRESENT)
def test_a_command_is_called_as_it_is_listed(name):
    assert load_command(name).name == name


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_readme(name, repository):
    assert f"`payerseg {name}" in read(repository, "README.md")


def test_help_lists_every_command():
    text = payerseg.get_help(click.Context(payerseg))
    assert all(re.search(rf"^  {name}\b", text, re.MULTILINE) for name in COMMANDS)


def test_config_page_is_up_to_date(repository):
    assert read(repository, "docs/config.md") == config_page(), (
        "run: payerseg config explain > docs/config.md"
    )


def test_config_page_holds_every_key():
    page = config_page()
    for key, item, _ in every_option():
        section, _, name = key.rpartition(".")
        part = page.split(f"## [{section}]", 1)[1].split("\n## ", 1)[0]
        assert f"| `{name}` |" in part
        assert item.metadata["text"] in part
    assert all(f"`{name}`" in page for name in preset_names())


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/two-systems.md"])
def test_python_examples_parse(page, repository):
    blocks = re.findall(r"```python\n(.*?)```", read(repository, page), re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


def test_readme_commands_are_marked_for_ci(repository):
    text = read(repository, "README.md")
    for mark in ("run", "test"):
        assert re.search(rf"<!-- command {mark} -->\n```sh\n.+?\n```", text, re.DOTALL)


def test_links_lead_somewhere(repository):
    pages = [
        repository / "README.md",
        repository / "CONTRIBUTING.md",
        *(repository / "docs").rglob("*.md"),
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_decision_is_listed(repository):
    index = read(repository, "docs/adr/README.md")
    for page in (repository / "docs/adr").glob("[0-9]*.md"):
        assert f"({page.name})" in index
        text = page.read_text(encoding="utf-8")
        assert "\nStatus: " in text
        assert "## Decision" in text
        assert "## Consequences" in text
