"""Imports go down, never up, never sideways; third parties stay in their rooms (CONTRIBUTING.md)."""

import re
import sys
from pathlib import PurePosixPath

LAYERS = {
    "version": 0,
    "errors": 0,
    "atomic": 0,
    "records": 0,
    "config": 0,
    "domain": 0,
    "imaging": 1,
    "results": 2,
    "datasets": 2,
    "dicom": 2,
    "preprocess": 2,
    "networks": 2,
    "postprocess": 2,
    "inference": 3,
    "stagekit": 3,
    "training": 4,
    "evaluation": 4,
    "report": 4,
    "synthesis": 4,
    "measure": 4,
    "exports": 4,
    "driver": 5,
    "cli": 6,
    "api": 6,
    "training_api": 6,
    "__main__": 7,
    "main_test_overlap_cropped": 7,
    "stages": 7,
}
SIDEWAYS = {
    ("config", "errors"),  # the ground floor may name its failures
    ("domain", "errors"),
    ("records", "errors"),
    ("config", "records"),
    ("domain", "records"),
    ("inference", "inference"),
}
DRIVER_MAY_IMPORT = (
    "payerseg.driver",
    "payerseg.atomic",
    "payerseg.records",  # msgspec
    "payerseg.errors",
    "payerseg.config",
    "payerseg.dicom.names",  # standard library only
    "payerseg.dicom.source",
    "payerseg.domain.series_reference",
    "payerseg.domain.vertebra",  # names and labels; needs no numpy
    "payerseg.exports.flat",
    "payerseg.results.artifacts",
    "payerseg.results.case_folder",
    "payerseg.results.fingerprint",
    "payerseg.results.landmark_rows",
    "payerseg.results.manifest",
    "payerseg.results.stage_folder",
    "payerseg.results.status",
    "payerseg.stagekit.case_state",
    "payerseg.stagekit.catalog",
    "payerseg.stagekit.protocol",
)
CONFINED = {  # third party → where it may be imported
    "msgspec": ("payerseg/records.py",),
    "SimpleITK": ("payerseg/imaging/*",),
    "nibabel": ("payerseg/imaging/*",),
    "isal": ("payerseg/imaging/*",),
    "keras": ("payerseg/networks/*", "payerseg/inference/*", "payerseg/training/*"),
    "tensorflow": ("payerseg/inference/device.py",),
    "tensorboardX": ("payerseg/training/history.py",),
    "torch": ("payerseg/inference/device.py",),
    "jax": ("payerseg/inference/device.py",),
    "h5py": ("payerseg/networks/*",),
    "networkx": ("payerseg/postprocess/*",),
    "pandas": ("payerseg/evaluation/*", "payerseg/report/*", "payerseg/measure/*"),
    "click": ("payerseg/cli/*", "main_test_overlap_cropped.py"),
    "subprocess": ("payerseg/driver/supervisor.py", "payerseg/cli/sample.py"),
    "pydicom": ("payerseg/dicom/*", "payerseg/exports/dicom_seg.py"),
    "highdicom": ("payerseg/exports/dicom_seg.py",),
    "PIL": ("payerseg/imaging/pictures.py", "payerseg/report/*"),
    "jinja2": ("payerseg/report/page.py", "payerseg/evaluation/evaluation_report.py"),
    "markupsafe": ("payerseg/report/page.py",),
    "trimesh": ("payerseg/exports/*",),
    "skimage": ("payerseg/exports/*",),
    "numpy": ("payerseg/*", "payerseg/*/*"),
    "scipy": ("payerseg/*", "payerseg/*/*"),
}
NEVER = {
    "pickle",
    "marshal",
    "shelve",
    "requests",
    "urllib.request",
    "socket",
    "http",
    "matplotlib",
}
SOCKET_FOR = "payerseg/driver/"  # gethostname for the lock file, nothing else


def test_every_room_has_a_layer(product):
    rooms = {source.room for source in product} - {"__init__"}
    assert rooms <= set(LAYERS), f"no layer for {sorted(rooms - set(LAYERS))}: add it to LAYERS"


def test_the_tables_name_what_exists(product, repository):
    """A permission for a file that went away would let the next one of that name in."""
    modules = {source.module for source in product}
    places = {place for allowed in CONFINED.values() for place in allowed}
    assert set(DRIVER_MAY_IMPORT) <= modules
    assert len(set(DRIVER_MAY_IMPORT)) == len(DRIVER_MAY_IMPORT)
    assert set(LAYERS) == {source.room for source in product} - {"__init__"}
    assert [place for place in sorted(places) if not any(repository.glob(place))] == []


def test_imports_go_down(product):
    wrong = []
    for source in product:
        for name, line in source.imports:
            parts = name.split(".")
            if parts[0] != "payerseg" or source.room == "__init__":
                continue
            target = parts[1] if len(parts) > 1 else ""
            if target == source.room:
                continue
            if target not in LAYERS:
                wrong.append(f"{source.path}:{line} imports {name}: the package's face, from below")
                continue
            down = LAYERS[target] < LAYERS[source.room]
            if not down and (source.room, target) not in SIDEWAYS:
                wrong.append(
                    f"{source.path}:{line} imports {name} (layer {LAYERS[target]} from "
                    f"{LAYERS[source.room]})"
                )
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_a_stage(all_sources):
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in all_sources
        for name, line in source.imports
        if name.split(".")[0] == "stages" and not source.path.match("tests/stages/*")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_driver_imports_little(product):
    wrong = []
    for source in product:
        if source.room != "driver":
            continue
        for name, line in source.imports:
            first = name.split(".")[0]
            ours = name.startswith(DRIVER_MAY_IMPORT)
            if not ours and first not in sys.stdlib_module_names:
                wrong.append(f"{source.path}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_third_parties_stay_in_their_rooms(product):
    wrong = []
    for source in product:
        path = PurePosixPath(source.path.as_posix())
        for name, line in source.imports:
            first = name.split(".")[0]
            if first in ("payerseg", "__future__"):
                continue
            places = CONFINED.get(first)
            if places is None and first in sys.stdlib_module_names:
                continue
            if places is None or not any(path.match(place) for place in places):
                wrong.append(f"{path}:{line} imports {first}; allowed in {places or 'no file'}")
    assert not wrong, "\n".join(wrong)


def test_no_pickle_and_no_network(product):
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in product
        for name, line in source.imports
        if any(name == bad or name.startswith(f"{bad}.") for bad in NEVER)
        and not (name.startswith("socket") and source.path.as_posix().startswith(SOCKET_FOR))
    ]
    assert not wrong, "\n".join(wrong)


def test_files_are_replaced_in_one_way(product):
    """A half-written file under its final name is seen sooner or later: `atomic.replacing` is the way."""
    allowed = {"payerseg/atomic.py", "payerseg/results/case_folder.py"}
    wrong = [
        source.path.as_posix()
        for source in product
        if re.search(r"\.(part|partial|tmp)[\"']", source.text)
        and source.path.as_posix() not in allowed
    ]
    assert not wrong, wrong
