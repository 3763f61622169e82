"""What pyproject.toml promises is what the tree holds."""

import tomllib


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


def test_every_data_file_in_a_package_is_shipped(repository):
    patterns = project(repository)["tool"]["setuptools"]["package-data"]["*"]
    missing = [
        str(path.relative_to(repository))
        for path in (repository / "payerseg").rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc", ".md", ".so")
        and "__pycache__" not in path.parts
        and not any(path.match(pattern) for pattern in patterns)
    ]
    assert not missing, f"no [tool.setuptools.package-data] pattern for {missing}"


def test_code_is_apache_licensed(repository):
    assert project(repository)["project"]["license"] == "Apache-2.0"
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
