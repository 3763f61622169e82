"""What pyproject.toml promises is what the tree holds."""

import tomllib
from pathlib import PurePath


def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_shipped(repository):
    listed = set(project(repository)["tool"]["setuptools"]["packages"])
    found = {"payerseg.model_weights"}
    for top in ("payerseg", "stages"):
        for folder in [repository / top, *(repository / top).rglob("*")]:
            if folder.is_dir() and any(folder.glob("*.py")):
                found.add(".".join(folder.relative_to(repository).parts))
    found |= {"payerseg.config.presets"}
    assert listed - found == set(), "listed in pyproject.toml but not in the tree"
    assert found - listed == set(), "in the tree but not shipped: add to [tool.setuptools] packages"


def is_shipped(path, package, data):
    """Tell by the rules of setuptools: a pattern counts below one package, and `*` crosses no slash."""
    inside = path.relative_to(package)
    patterns = [*data["*"], *data.get(".".join(package.parts), [])]
    return any(
        inside.match(pattern) and len(PurePath(pattern).parts) == len(inside.parts)
        for pattern in patterns
    )


def test_every_data_file_in_a_package_is_shipped(repository):
    settings = project(repository)["tool"]["setuptools"]
    packages = {PurePath(*name.split(".")) for name in settings["packages"]}
    assert len(packages) == len(settings["packages"]), "a package is listed twice"
    missing = []
    for file in (repository / "payerseg").rglob("*"):
        path = file.relative_to(repository)
        is_data = file.is_file() and file.suffix not in (".py", ".pyc", ".md", ".so")
        if is_data and "__pycache__" not in path.parts:
            package = next(folder for folder in path.parents if folder in packages)
            if not is_shipped(path, package, settings["package-data"]):
                missing.append(str(path))
    assert not missing, f"no [tool.setuptools.package-data] pattern for {missing}"


def test_code_is_apache_licensed(repository):
    assert project(repository)["project"]["license"] == "Apache-2.0"
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
