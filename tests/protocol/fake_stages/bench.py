"""A folder of scans that are texts, and the real driver over a pipeline of fake stages."""

from dataclasses import replace

from fake_stages.fake_catalog import PIPELINE
from payerseg.config.schema import DriverConfig, RunConfig
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings
from payerseg.driver.status import decide_all
from payerseg.results.fingerprint import HashMemo
from payerseg.results.status import is_good, read_status
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.case_state import current_result
from payerseg.stagekit.in_process import InProcessStage

# Timers in tenths of seconds where a test is about them; generous where it is not.
QUICK = DriverConfig(
    heartbeat_s=0.1, startup_s=30.0, silence_s=20.0, case_s=20.0, grace_s=0.5, keep="all"
)


class Bench:
    """Inputs, output, and what the run said."""

    def __init__(self, root, pipeline=PIPELINE):
        self.inputs, self.output, self.pipeline = root / "in", root / "out", pipeline
        self.inputs.mkdir(parents=True)
        self.messages = []

    def scans(self, **texts):
        """Write scans; the text says how the second stage behaves."""
        for case_id, text in texts.items():
            (self.inputs / f"{case_id}.nii").write_text(text)

    def settings(self, driver=None, **changes):
        config = RunConfig(driver=replace(QUICK, **(driver or {})))
        settings = RunSettings(self.output, (self.inputs,), config, pipeline=self.pipeline)
        return replace(settings, **changes)

    def run(self, driver=None, **changes):
        """Run the driver with real processes."""
        self.messages = []
        return run_pipeline(self.settings(driver, **changes), self.messages.append)

    def build(self, case_id="a", config=None):
        """Do all stages for one case in this process: quick, same results."""
        config = config or RunConfig()
        for spec in self.pipeline:
            stage = InProcessStage(spec, StageSetup(getattr(config, spec.section)))
            stage(case_id, self.output / case_id, self.inputs / f"{case_id}.nii")

    def path(self, artifact, case_id="a"):
        return self.settings().case_folder(case_id).path(artifact)

    def artifacts(self):
        """Every artifact's content, by its path."""
        return {
            str(path.relative_to(self.output)): path.read_bytes()
            for path in sorted(self.output.glob("*/step*/**/*"))
            if path.is_file() and path.name != "manifest.json"
        }

    def untruths(self):
        """What the results folder says of itself that is not so; empty where there is none."""
        if not self.output.is_dir():
            return []
        reports = {report.case_id: report for report in decide_all(self.output, self.settings())}
        found = [
            f"{case_id}: {stage} is no whole result: {verdict}"
            for case_id, report in reports.items()
            for stage, verdict in report.verdicts.items()
            if not verdict.whole and verdict.reasons[0] != "no result yet"
        ]
        for path in sorted(self.output.glob("*/status.json")):
            folder = self.settings().case_folder(path.parent.name)
            current = current_result(folder, HashMemo(), self.pipeline)
            # a scan that was replaced since the last run says nothing against how that run ended
            replaced = any("scan_file changed" in text for text in current.trouble)
            status = read_status(folder).status
            if is_good(status) and len(current.manifests) < len(self.pipeline) and not replaced:
                found.append(f"{folder.case_id}: {status}, but {current.trouble}")
        return found

    def statuses(self, summary):
        return {case.case_id: case.status for case in summary.cases}

    def stage_states(self, summary, stage):
        return {case.case_id: str(case.stages[stage].state) for case in summary.cases}

    def states(self, summary):
        """Each stage's state for the one case of the summary."""
        return [str(outcome.state) for outcome in summary.cases[0].stages.values()]
