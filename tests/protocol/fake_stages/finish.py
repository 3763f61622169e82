"""Counts the letters of what the stage before it derived, which a person may have edited."""

from fake_stages.dying import die_as_told
from fake_stages.fake_catalog import COUNT, DERIVED, FINISH
from payerseg.stagekit.worker import run_stage


class Finish:
    def __init__(self, setup):
        self.setup = setup

    def __call__(self, case):
        text = case.folder.path(DERIVED).read_text()
        with case.path_for(COUNT) as path:
            path.write_text(str(len(text)))


if __name__ == "__main__":
    die_as_told()
    raise SystemExit(run_stage(FINISH, Finish))
