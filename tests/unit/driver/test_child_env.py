"""Engines that are not there are refused before anything is started."""

import pytest

from payerseg.config.schema import DriverConfig
from payerseg.driver import supervisor
from payerseg.driver.supervisor import check_backend, chosen_variables
from payerseg.errors import ConfigError


def test_an_absent_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr(supervisor, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'payerseg\[torch\]'"):
        check_backend("torch")
    with pytest.raises(ConfigError, match="pip install 'payerseg'"):
        check_backend("tensorflow")


def test_a_present_engine_is_taken(monkeypatch):
    monkeypatch.setattr(supervisor, "find_spec", lambda name: object())
    check_backend("jax")


@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_the_engine_is_chosen_in_the_environment(backend):
    assert chosen_variables(DriverConfig(backend=backend), {})["KERAS_BACKEND"] == backend
