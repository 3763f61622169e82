"""The lines that matter most, each made wrong; `mutations.py` tries whether the tests beside them notice."""

from __future__ import annotations

from dataclasses import dataclass

CASE_RUN = "tests/unit/stagekit/test_case_run.py"
DECIDE = "tests/freshness/test_decide.py"
EDITS = "tests/stages/test_mask_edits.py tests/freshness/test_edits.py"
HOUNSFIELD = "tests/unit/preprocess/test_hounsfield.py"
LOCK = "tests/unit/driver/test_lock.py"
NIFTI = "tests/unit/imaging/test_nifti.py"
RECORDS = "tests/unit/test_records.py"
RUNS = "tests/freshness/test_runs.py"
HASHES = "tests/unit/results/test_fingerprint.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line that is wrong.

    Attributes:
        file: from the root of the repository.
        line: a text that stands in it once.
        instead: what stands there in the mutant.
        tests: that must fail.
    """

    file: str
    line: str
    instead: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file} | {self.line.strip()} | {self.instead.strip()}"


def _of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(file, line, instead, tuple(tests.split())) for line, instead in changes]


MUTANTS = (
    *_of(
        "payerseg/imaging/nifti.py", NIFTI,
        ("LPS_FROM_RAS = np.diag([-1.0, -1.0,", "LPS_FROM_RAS = np.diag([1.0, 1.0,"),
        ("affine = LPS_FROM_RAS @ grid.matrix", "affine = grid.matrix"),
        ('(sform, "sform") if sform is not None else (qform, "qform")',
         '(qform, "qform") if qform is not None else (sform, "sform")'),
        ("[known] > SPACING_DISAGREEMENT * lengths[known]", "[known] > 1e9"),
        ('Note("no_orientation", message, review=True)', 'Note("no_orientation", message)'),
        ("        header[name] = geometry[name]", '        header["pixdim"] = geometry["pixdim"]'),
    ),
    *_of(
        "payerseg/domain/grid.py",
        "tests/unit/domain/test_grid.py tests/unit/cli/test_evaluate.py",
        ("SAME_SPACE_VOXELS = 0.02", "SAME_SPACE_VOXELS = 0.2"),
        ("ROUNDED_VOXELS = 0.25", "ROUNDED_VOXELS = 2.5"),
        ("float(np.abs(gap).max())", "float(np.abs(gap).min())"),
    ),
    *_of(
        "payerseg/domain/vertebra.py", "tests/unit/datasets/test_label_schemes.py "
        "tests/unit/driver/test_exports.py",
        ("return self.value\n", "return self.value + 1\n"),
        ("cls(28 if channel == 25 else channel + 1)", "cls(28 if channel == 25 else channel)"),
    ),
    *_of(
        "payerseg/postprocess/mask_results.py", EDITS,
        ("array[block][inside] = vertebra.verse_label", "array[block][inside] = vertebra.channel"),
        ("if np.any(taken[block] & inside):", "if False:"),
        ("if grid.voxels_apart(labels.grid) > ROUNDED_VOXELS:", "if False:"),
    ),
    *_of(
        "payerseg/driver/lock.py", LOCK,
        ("fcntl.flock(file, fcntl.LOCK_EX)", "pass"),
        ("if owner is not None and not owner.is_gone(", "if owner is None and not owner.is_gone("),
        ("return age_s > BEATS_MISSED * self.beat_s", "return age_s > self.beat_s"),
        ("if _read_owner(path) == self._owner:", "if True:"),
        ("raise _Held(msg) from error", "owner = None"),
        ("os.utime(path)", "path.stat()"),
        ("or (bool(self.born) and _born(self.pid) != self.born)", ""),
    ),
    *_of(
        "payerseg/results/manifest.py", f"tests/unit/results/test_manifest.py {CASE_RUN}",
        ("write_text(path, records.to_json(self), durable=True)",
         "write_text(path, records.to_json(self))"),
        ("if manifest is not None and manifest.format != MANIFEST_FORMAT:", "if False:"),
        ("if not isinstance(review, bool):", "if False:"),
    ),
    *_of(
        "payerseg/atomic.py", RECORDS,
        ("os.fsync(file.fileno())", "file.flush()"),
        ("temporary.replace(path)", "shutil.copyfile(temporary, path)"),
        ("os.fsync(descriptor)", "pass"),
    ),
    *_of(
        "payerseg/records.py", RECORDS,
        ("    if unknown:\n", "    if False:\n"),
        ("parse_constant=_refuse_constant", "parse_constant=None"),
    ),
    *_of(
        "payerseg/results/stage_folder.py", f"{CASE_RUN} tests/freshness/test_edits.py {RUNS}",
        ("    keep_edits(folder, step, writes)", "    pass"),
        ("    if manifest is None and (folder.root / step / PARTIAL_FOLDER).exists():",
         "    if manifest is None:"),
        ("found == written.get(artifact.name) and", "True and"),
    ),
    *_of(
        "payerseg/stagekit/case_run.py", CASE_RUN,
        ("if loaded != asked:", "if False:"),
        ("if _stamps(spec, folder, request.image) != seen:", "if False:"),
        ("if before[name] != after.get(name))", "if False)"),
        ("if not complete:", "if False:"),
        ("sync_folder(folder.root / spec.folder)", "pass"),
    ),
    *_of(
        "payerseg/stagekit/case_state.py", f"{DECIDE} tests/unit/cli/test_export.py",
        ("elif before != now:", "elif False:"),
        ("elif found not in (None, digest):", "elif False:"),
        ("if found is None and name not in manifest.pruned:", "if False:"),
        ("outcome.state is StageState.FAILED:", "False:"),
        ("wrong = [*content.changed,", "wrong = ["),
        ("return (None, wrong) if wrong else (content, [])", "return content, []"),
    ),
    *_of(
        "payerseg/driver/freshness.py", DECIDE,
        ("if weights != manifest.weights:", "if False:"),
        ("if plan.seed != manifest.seed:", "if False:"),
        ("if not reasons and manifest.key != _key(", "if False and manifest.key != _key("),
        ("elif before != now or (name in old) != (name in new):", "elif False:"),
    ),
    *_of(
        "payerseg/results/fingerprint.py", HASHES,
        ("if now_ns - max(stamp[1:3]) > RACY_NS:", "if True:"),
        ("stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino", "stat.st_mtime_ns, 0, 0"),
        ("if known is not None and known[0] == stamp:", "if known is not None:"),
        ("bundle += [path / LEVELS_FOLDER / name for name in parts]", "pass"),
    ),
    *_of(
        "payerseg/config/weights.py", "tests/unit/networks/test_bundle.py "
        "tests/unit/driver/test_preflight.py",
        ("if found != card.weights_sha256:", "if False:"),
    ),
    *_of(
        "payerseg/driver/messages.py", "tests/unit/driver/test_outcome.py",
        ("if all(case.good for case in cases)", "if any(case.good for case in cases)"),
    ),
    *_of(
        "payerseg/driver/run.py", f"{RUNS} {EDITS}",
        ("if exit_code is ExitCode.OK and not self._all_written:", "if False:"),
        ("if not self._settings.force:\n            self._spare", "if False:\n            self._spare"),
    ),
    *_of(
        "payerseg/driver/status_files.py", RUNS,
        ("if told is None or replace(told, run_id=case.run_id) != case:", "if told is None:"),
        (" or replace(told, run_id=case.run_id) != case:", " or told != case:"),
    ),
    *_of(
        "payerseg/driver/freshness.py", RUNS,
        ("if not _complete(manifests.values()):", "if False:"),
    ),
    *_of(
        "payerseg/results/landmark_edits.py", "tests/unit/results/test_landmark_edits.py",
        ('grid["shape"][2 - axis] - 0.5:', 'grid["shape"][axis] - 0.5:'),
        ("return statistics.median(turned) < NEARER", "return False < NEARER"),
    ),
    *_of(
        "payerseg/preprocess/hounsfield.py", HOUNSFIELD,
        ("if values.max() > _UINT16_HALF:", "if False:"),
        ("_refuse_hopeless(values, doubts, name)\n    return", "pass\n    return"),
    ),
)  # fmt: skip
