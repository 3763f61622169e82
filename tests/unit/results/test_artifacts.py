import pytest

from payerseg.results import artifacts
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import CaseFolder
from payerseg.stagekit.catalog import DICOM_INVENTORY, NETWORK_TRAINING, PIPELINE

SPECS = (*PIPELINE, DICOM_INVENTORY, NETWORK_TRAINING)
ALL = [item for item in vars(artifacts).values() if isinstance(item, Artifact)]


def test_every_artifact_has_one_writer_in_whose_folder_it_lies():
    for artifact in ALL:
        writers = [spec for spec in SPECS if artifact in spec.writes]
        assert len(writers) == 1, artifact
        assert artifact.step == writers[0].folder


def test_names_and_places_are_unique():
    assert len({item.name for item in ALL}) == len({item.where for item in ALL}) == len(ALL)


def test_a_stage_reads_only_what_an_earlier_one_writes():
    written = set()
    for spec in PIPELINE:
        assert set(spec.reads) <= written, spec.name
        written |= set(spec.writes)


def test_every_format_has_a_codec():
    from payerseg.results.formats import _CODECS

    assert {item.format for item in ALL} <= set(_CODECS)


def test_every_stage_has_settings():
    for spec in PIPELINE:
        assert spec.config_type()()


def test_folders_have_the_references_names():
    assert [spec.folder for spec in PIPELINE[1:4]] == [
        "step1_spine_localization",
        "step2_vertebrae_localization",
        "step3_vertebrae_segmentation",
    ]


def test_the_case_id_is_filled_in(tmp_path):
    path = CaseFolder(tmp_path, "sub-{1}").path(artifacts.SEGMENTATION)
    assert path == tmp_path / "step3_vertebrae_segmentation" / "sub-{1}_seg.nii.gz"


@pytest.mark.parametrize(
    ("artifact", "levels"),
    [
        (artifacts.SEGMENTATION, ["results", "standard", "all"]),
        (artifacts.CT, ["standard", "all"]),
        (artifacts.HEATMAPS, ["all"]),
    ],
)
def test_keep_levels(artifact, levels):
    assert [level for level in artifacts.KEEP_LEVELS if artifact.stays_at(level)] == levels
