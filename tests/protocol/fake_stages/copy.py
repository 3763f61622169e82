"""Copies the user's file; a file that says "bad" is refused, one that says "empty" holds no spine."""

from fake_stages.dying import die_as_told
from fake_stages.fake_catalog import COPY, TEXT
from payerseg.errors import SpineNotFound, UnreadableScan
from payerseg.stagekit.worker import run_stage


class Copy:
    def __init__(self, setup):
        self.setup = setup

    def __call__(self, case):
        text = case.image.read_text()
        if text == "bad":
            raise UnreadableScan("the file says that it is bad")
        if text == "empty":
            with case.path_for(TEXT) as path:
                path.write_text(text)
            raise SpineNotFound("nothing there")
        case.note("length", len(text))
        with case.path_for(TEXT) as path:
            path.write_text(text)


if __name__ == "__main__":
    die_as_told()
    raise SystemExit(run_stage(COPY, Copy))
