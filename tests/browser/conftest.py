"""Pages in a real browser; skipped with a reason where there is none."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode: no packages among tests
from chromium import Browser, find_chromium


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A browser profile; what pages store outlives one browser."""
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def start_browser(profile):
    """A function that starts Chromium on the module's profile."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) or set CHROMIUM")
    return lambda: Browser(program, profile)


@pytest.fixture(scope="module")
def browser(start_browser):
    """One running Chromium."""
    running = start_browser()
    yield running
    running.close()
