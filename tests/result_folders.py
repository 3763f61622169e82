"""Case folders that hold together: manifests for all stages up to the last of which there is a file."""

from __future__ import annotations

from pathlib import Path

from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import ABSENT, HashMemo, digest_of, scan_digest
from payerseg.results.manifest import SCAN_FILE_INPUT, StageManifest
from payerseg.results.status import CaseSummary
from payerseg.stagekit.catalog import PIPELINE


def seal(folder: CaseFolder, image: Path | None = None, **status) -> CaseFolder:
    """Write manifests and a status for what lies there, as if a run had just made it.

    Args:
        folder: of the case.
        image: the user's scan.
        status: fields of status.json; default: ok.
    """
    memo = HashMemo()
    outputs = {
        spec: {
            item.name: digest
            for item in spec.writes
            if (digest := digest_of(folder.path(item), memo)) is not None
        }
        for spec in PIPELINE
    }
    last = max((spec.step for spec in PIPELINE if outputs[spec]), default=-1)
    for spec in PIPELINE[: last + 1]:
        inputs = {item.name: digest_of(folder.path(item), memo) or ABSENT for item in spec.reads}
        if spec.reads_scan:
            inputs[SCAN_FILE_INPUT] = scan_digest(image, memo) if image else ABSENT
        manifest = StageManifest(
            spec.name, spec.version, "key", inputs=inputs, outputs=outputs[spec]
        )
        manifest.write(folder.manifest_path(spec.folder))
    CaseSummary(folder.case_id, **{"status": "ok", "image": image, **status}).write(folder)
    return folder
