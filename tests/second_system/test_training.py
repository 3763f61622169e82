"""From a folder of scans to bundles that run, by the Python API: tiny networks, one epoch."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import payerseg
from payerseg.cli.app import payerseg as command_line
from payerseg.cli.app import run_guarded
from payerseg.config.model_card import ModelCard
from payerseg.errors import ConfigError

QUICK = (
    "training.widths=[2, 2]",
    "training.precision=float32",
    "training.max_val_items=1",
    "training.tensorboard=false",
)


@pytest.fixture(scope="module")
def system(training_data, tmp_path_factory):
    pack = tmp_path_factory.mktemp("pack")
    report = payerseg.prepare_data(training_data, pack)
    assert not report.skipped
    return payerseg.SystemConfig.of("verse_pytorch", pack, QUICK)


def test_examples_of_each_stage(system):
    spine = payerseg.StageDataset(system.spine_localization)
    landmark = payerseg.LandmarkDataset(system.vertebrae_localization)
    vertebra = payerseg.SegmentationDataset(system.vertebrae_segmentation)
    assert (len(spine), len(landmark), len(vertebra)) == (1, 1, 2)
    for dataset, x_shape, y_shape in (
        (spine, (128, 64, 64, 1), (128, 64, 64, 2)),
        (landmark, (128, 96, 96, 1), (26, 6)),
        (vertebra, (128, 96, 96, 26), (128, 96, 96, 1)),
    ):
        x, y = dataset[0]
        assert (x.shape, y.shape) == (x_shape, y_shape)
        np.testing.assert_array_equal(dataset[0][0], x)
        with pytest.raises(IndexError):
            dataset[len(dataset)]
    classes = np.unique(vertebra[0][1])
    assert set(classes) == {0, 19, 20}, "T12 and L1 are classes 19 and 20"


@pytest.mark.parametrize("stage", ["spine_localization", "vertebrae_localization"])
def test_networks_have_the_channels_of_the_family(system, stage):
    network = payerseg.build_stage_network(getattr(system, stage))
    outputs = {"spine_localization": 1, "vertebrae_localization": 25}
    assert network.output.shape[-1] == outputs[stage]


def test_a_part_of_another_stage_is_refused(system, tmp_path):
    with pytest.raises(ConfigError, match="expected spine_localization"):
        payerseg.SpineDataset(system.vertebrae_localization)
    with pytest.raises(ConfigError, match="expected vertebrae_segmentation"):
        payerseg.SegmentationTrainer(system.spine_localization, tmp_path)


def test_a_training_that_was_cut_short_goes_on_and_ends_in_a_bundle(system, tmp_path):
    part = replace(system.spine_localization, report_every=1, save_every=1)
    steps = []

    def stop_at_two(step, total, figures):
        if step == 2:
            raise KeyboardInterrupt

    trainer = payerseg.SpineTrainer(part, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(3, stop_at_two)
    bundle = trainer.train(3, lambda step, total, figures: steps.append(step))
    assert min(steps) == 2, "the first step was done and kept"
    assert bundle == tmp_path / "bundles" / "spine_localization"
    card = ModelCard.read(bundle)
    assert (card.family, card.network.widths) == ("verse_pytorch", (2, 2))
    assert card.training.iterations == 3
    with pytest.raises(ConfigError, match="another epochs"):
        trainer.train(4)


@pytest.mark.slow
def test_a_trained_system_runs_and_is_scored(system, training_data, tmp_path):
    """The whole way; after two steps it knows nothing, so only the paths are looked at."""
    trainers = {
        "spine_localization": payerseg.SpineTrainer,
        "vertebrae_localization": payerseg.LandmarkTrainer,
        "vertebrae_segmentation": payerseg.SegmentationTrainer,
    }
    weights = {
        name: trainer(getattr(system, name), tmp_path).train(num_epochs=1)
        for name, trainer in trainers.items()
    }
    config = payerseg.load_config(
        "verse_pytorch",
        overrides=[
            "spine_localization.min_peak=0",
            "vertebrae_localization.graph.min_evidence=-99",
        ],
    )
    scan = payerseg.load_nifti(training_data / "images" / "b.nii.gz")
    result = payerseg.Pipeline(config, weights=weights).run(*scan)
    assert result.segmentation.shape == scan.image.shape
    assert result.status in ("ok", "ok_needs_review", "no_spine")
    found, truth, scores = (tmp_path / name for name in ("found", "truth", "scores"))
    found.mkdir()
    truth.mkdir()
    payerseg.save_nifti(result.segmentation, scan.affine, found / "b_seg.nii.gz")
    shutil.copy(training_data / "segmentations" / "b_seg.nii.gz", truth)
    arguments = ["evaluate", str(found), "--truth", str(truth), "-o", str(scores)]
    assert run_guarded(command_line, arguments) == 0
    (figures,) = json.loads((scores / "summary.json").read_text())["figures"]
    assert 0 <= figures["dice"]["value"] <= 1
