"""How the training of a network is started, and what is said of its end."""

from dataclasses import replace

import pytest

from payerseg.config.schema import DriverConfig
from payerseg.config.training import TrainingConfig
from payerseg.driver import training
from payerseg.results.status import StageOutcome, StageState

CONFIG = replace(TrainingConfig(), network="spine_localization", fold=2)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Run a training whose process ends with an outcome; return what it was asked, and its end."""

    def train(outcome):
        asked = {}

        class Run:
            log = tmp_path / "log"

            def __init__(self, plan, settings, folder, listen):
                asked.update(plan=plan, settings=settings, folder=folder, listen=listen)
                self.outcomes = {}

            def run(self, cases, _reasons, _clock):
                (case,) = cases
                self.outcomes[case.case_id] = outcome

        monkeypatch.setattr(training, "StageRun", Run)
        end = training.run_training(CONFIG, DriverConfig(max_restarts=5), tmp_path / "out", None)
        return asked, end

    return train


def test_a_training_lies_beside_its_folds_and_is_not_restarted(trained, tmp_path):
    asked, end = trained(StageOutcome(StageState.DONE))
    assert end == training.TrainingEnd(tmp_path / "out" / "spine_localization_fold2", ok=True)
    assert asked["settings"].config.driver.max_restarts == 0
    assert asked["plan"].config["fold"] == 2
    assert training.training_name(replace(CONFIG, fold=None)) == "spine_localization"


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("config", 2, "(log: "),
        ("dataset", 2, "(log: "),
        ("bug", 1, "(log: "),
        ("crashed", 3, "run the same command to go on"),
        ("timeout", 3, "run the same command to go on"),
    ],
)
def test_a_training_that_failed_says_why_and_what_to_do(trained, kind, code, said):
    _, end = trained(StageOutcome(StageState.FAILED, kind, "it ended"))
    assert (end.ok, end.exit_code) == (False, code)
    assert end.message.startswith("it ended")
    assert said in end.message
