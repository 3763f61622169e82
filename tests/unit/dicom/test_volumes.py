"""Which slices make a volume, and what is said of those that are left out: each case a tiny series.

A slice is a record and a picture of 8 x 8 numbers; no file is written.
"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from payerseg.dicom.headers import IN_PLANE, SPLIT_TAGS, Frame, PixelFormat
from payerseg.dicom.selection import Choice, decide
from payerseg.dicom.volumes import find_volumes, make_volume

CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
N, STEP = 24, 2.0


class Series:
    """Slices on their way into an inventory; `shows` is what each one's picture is drawn from."""

    def __init__(self):
        self.frames, self.shows = [], {}

    def add(self, ks, body=0, *, tags=(), z=0.0, aside=0.0, step=STEP, **changes):
        """Add slices k * step + z of a body, with changed tags and fields."""
        for k in ks:
            name = f"{len(self.frames):04d}"
            place = (-4.0 + aside, -4.0, step * k + z)
            frame = Frame(
                member=name, index=None, uid=name, patient="a", study="study", series="series",
                frame_of_reference="for", series_number=2, description="", modality="CT",
                sop_class=CT, image_type=("ORIGINAL", "PRIMARY"), order=(len(self.frames), 0), rows=8,
                columns=8, spacing_mm=(1.0, 1.0), orientation=AXIAL, position_mm=place,
                thickness_mm=STEP, slope=1.0, intercept=0.0, rescale_type="HU",
                pixels=PixelFormat("1.2.840.10008.1.2.1"), tags=dict.fromkeys(SPLIT_TAGS, "1"),
                truncated=False,
            )  # fmt: skip
            frame = replace(frame, tags={**frame.tags, **dict(tags)}, **changes)
            self.frames.append(frame)
            self.shows[name] = body, step * k + z
        return self

    def values(self, frame):
        body, z = self.shows[frame.member]
        rng = np.random.default_rng(body)
        slow, fast = rng.normal(0, 100, (2, 8, 8))
        noise = np.random.default_rng([body, 10**6 + round(1000 * z)]).normal(0, 5, (8, 8))
        return (slow + fast * np.sin(z / 15) + noise).astype(np.float32)

    def decide(self, wanted="best", **options):
        return decide(find_volumes(self.frames, self.values), wanted, **options)


def run(n):
    return range(n)


def of(**tags):
    return tags.items()


def acquisition(n):
    return of(AcquisitionNumber=str(n))


def taken(decisions):
    return sorted(len(d.volume.frames) for d in decisions if d.choice is Choice.CHOSEN)


def codes(decisions):
    return {
        note.code
        for d in decisions
        if d.choice is Choice.CHOSEN
        for note in (*d.volume.notes, *d.notes)
    }


def halves(first, second, cut=14, overlap=0, body=0):
    return Series().add(range(cut), **first).add(range(cut - overlap, N), body, **second)


PARTS = {
    "acquisition": {"tags": acquisition(2)},
    "kvp": {"tags": of(KVP="100")},
    "kernel": {"tags": of(ConvolutionKernel="B70f")},
    "time": {"tags": of(AcquisitionTime="2")},
    "frame of reference": {"tags": of(FrameOfReferenceUID="2"), "frame_of_reference": "other"},
    "study": {"tags": of(StudyInstanceUID="2"), "study": "other"},
    "class": {"tags": of(SOPClassUID="2"), "sop_class": CAPTURE},
    "image type": {"tags": of(ImageType="2"), "image_type": ("DERIVED", "SECONDARY")},
    "spacing": {"spacing_mm": (1.0001, 1.0001)},
    "orientation": {"orientation": (1.0, 0.003, 0.0, -0.003, 1.0, 0.0)},
    "thickness": {"tags": of(SliceThickness="3"), "thickness_mm": 3.0},
}


@pytest.mark.parametrize("overlap", [0, 1, 5])
@pytest.mark.parametrize("name", sorted(PARTS))
def test_one_run_stored_in_two_parts_is_one_volume(name, overlap):
    decisions = halves({}, PARTS[name], overlap=overlap).decide()
    assert taken(decisions) == [N]
    assert len(decisions) == 1
    assert not codes(decisions) & {"dicom_left_out", "dicom_doubled_differ"}


def test_three_parts_each_share_a_slice_with_the_next():
    series = Series()
    for n, ks in enumerate((range(9), range(8, 17), range(16, N))):
        series.add(ks, tags=acquisition(n))
    assert taken(series.decide()) == [N]


def test_where_doubled_slices_differ_parts_are_joined_and_a_person_looks():
    decisions = halves({}, {"tags": acquisition(2)}, overlap=2, body=1).decide()
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_joined", "dicom_doubled_differ"}
    notes = " ".join(note.message for note in decisions[0].volume.notes)
    assert "parts of 14 and 12 slices, told apart by AcquisitionNumber" in notes
    assert "2 doubled slices differ" in notes


@pytest.mark.parametrize(
    "tags",
    [acquisition(2), of(ConvolutionKernel="B70f"), of(TriggerTime="350"), of(ContentTime="2")],
)
def test_two_phases_of_one_region_stay_two(tags):
    decisions = Series().add(run(N)).add(run(N), 1, tags=tags).decide()
    assert [len(d.volume.frames) for d in decisions] == [N, N]
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_split"}


def test_kernels_stay_two_even_where_pixels_are_equal():
    decisions = Series().add(run(N)).add(run(N), tags=of(ConvolutionKernel="B70f")).decide("all")
    assert taken(decisions) == [N, N]


def test_two_phases_each_in_two_acquisitions():
    """Chest and abdomen, arterial and venous: each phase is joined with its own other half."""
    series = Series()
    for n, (body, phase, ks) in enumerate(
        [(0, "a", range(14)), (1, "v", range(14)), (0, "a", range(13, N)), (1, "v", range(13, N))]
    ):
        series.add(ks, body, tags=of(AcquisitionNumber=str(n), ImageType=phase))
    assert taken(series.decide("all")) == [N, N]
    assert "dicom_doubled_differ" not in codes(series.decide("all"))


def test_a_shorter_phase_is_another_scan_and_named():
    decisions = Series().add(run(N)).add(range(6, 16), 1, tags=acquisition(2)).decide()
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_split"}
    assert [d.reason for d in decisions if d.choice is Choice.LEFT] == [
        "10 slices; series 2/1 has 24"
    ]


def test_a_phase_that_reaches_further_is_counted():
    decisions = Series().add(run(N)).add(range(10, N + 6), 1, tags=acquisition(2)).decide()
    assert taken(decisions) == [N]
    assert "dicom_left_out" in codes(decisions)
    (chosen,) = (d for d in decisions if d.choice is Choice.CHOSEN)
    assert (
        "20 slices of the series were left out, 6 of them beyond those used"
        in chosen.notes[0].message
    )


def test_two_phases_half_a_step_apart_stay_two():
    decisions = Series().add(run(N)).add(run(N), 1, z=1.0, tags=acquisition(2)).decide("all")
    assert taken(decisions) == [N, N]


def test_odd_and_even_slices_in_two_acquisitions_are_one():
    series = Series()
    for k in run(N):
        series.add([k], tags=acquisition(k % 2))
    assert taken(series.decide()) == [N]


def test_copies_are_known_by_place_and_pixels_not_by_uid():
    again = Series().add(run(N)).add(range(5, 15))
    assert taken(again.decide()) == [N]
    assert codes(again.decide()) == {"dicom_copies"}
    one_uid = Series().add(run(N), uid="1")
    assert taken(one_uid.decide()) == [N]


@pytest.mark.parametrize("z", [0.002, -0.01])
def test_copies_may_be_rounded_apart(z):
    series = Series().add(run(N)).add(run(N), z=z)
    series.shows = {name: (body, round(place)) for name, (body, place) in series.shows.items()}
    assert taken(series.decide()) == [N]
    assert codes(series.decide()) == {"dicom_copies"}


def test_a_few_doubled_slices_that_nothing_tells_apart():
    decisions = Series().add(run(N)).add(range(5, 10), 1, order=(3, 0)).decide()
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_doubled_differ"}


def test_doubled_throughout_and_numbered_in_turn():
    decisions = Series().add(run(N)).add(run(N), 1).decide("all")
    assert taken(decisions) == [N, N]
    assert "order of instance numbers" in decisions[0].volume.notes[0].message


def test_doubled_throughout_and_nothing_tells_them_apart():
    decisions = Series().add(run(N), order=(0, 0)).add(run(N), 1, order=(0, 0)).decide()
    assert taken(decisions) == []
    assert "24 of 48 slices lie where another does, with other pixels" in decisions[0].reason


@pytest.mark.parametrize("z", [0.0, 1.0, 2.0 * N, 7.3])
def test_never_two_patients_in_one_volume(z):
    decisions = Series().add(run(N)).add(run(N), 1, z=z, patient="b").decide()
    assert taken(decisions) == [N, N]
    assert all(len({f.patient for f in d.volume.frames}) == 1 for d in decisions)


@pytest.mark.parametrize("changes", [{"patient": "b"}, {"rows": 9}, {"orientation": CORONAL}])
def test_files_that_are_no_longer_one_volume_are_refused(changes):
    frames = Series().add(run(N)).add(range(N, 2 * N), **changes).frames
    assert "slices of 2 kinds" in make_volume(frames).problem.message


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("at", [10, -30])
def test_bolus_slices_in_the_series_are_left_out_and_counted(each, at):
    series = Series()
    for n in range(9):
        tags = of(AcquisitionNumber=str(n if each else 0), AcquisitionTime=str(n))
        series.add([at], 0, tags=tags, z=0.0)
        series.shows[series.frames[-1].member] = 0, 0.5 + n
    series.add(run(N), tags=of(AcquisitionNumber="99", AcquisitionTime="99"))
    decisions = series.decide()
    assert taken(decisions) == [N]
    assert "dicom_left_out" in codes(decisions)
    left = [f for d in decisions if d.choice is Choice.LEFT for f in d.volume.frames]
    assert len(left) == 9
    if at > 0:
        assert len(decisions) == 2
        (chosen,) = (d for d in decisions if d.choice is Choice.CHOSEN)
        (note,) = chosen.notes
        assert "9 slices of the series were left out, among those used" in note.message
        assert "9 slice(s) at 1 place(s) are no volume" in note.message


def test_pictures_of_another_plane_are_told():
    decisions = Series().add([3], orientation=CORONAL, rows=5).add(run(N)).decide()
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_left_aside"}


@pytest.mark.parametrize("kind", ["AXIAL", "LOCALIZER"])
def test_scouts_are_told(kind):
    series = Series().add([0], orientation=CORONAL, image_type=("ORIGINAL", "PRIMARY", kind))
    decisions = series.add([0], orientation=(0, 1, 0, 0, 0, -1)).add(run(N)).decide()
    assert taken(decisions) == [N]
    assert codes(decisions) == {"dicom_left_aside"}


@pytest.mark.parametrize(
    "other", [{"rows": 9}, {"spacing_mm": (1.1, 1.1)}, {"orientation": (1, 0.02, 0, -0.02, 1, 0)}]
)
def test_parts_that_do_not_agree_are_counted(other):
    decisions = halves({}, other).decide()
    assert taken(decisions) == [14]
    assert "dicom_left_out" in codes(decisions)
    (chosen,) = (d for d in decisions if d.choice is Choice.CHOSEN)
    assert "10 slices of the series were left out, 10 of them beyond" in chosen.notes[0].message


def test_one_slice_of_another_size_at_the_end_is_counted():
    decisions = Series().add(run(N)).add([N], rows=9).decide()
    assert (
        "1 slices of the series were left out, 1 of them beyond"
        in next(d for d in decisions if d.choice is Choice.CHOSEN).notes[0].message
    )


def test_a_hole_between_acquisitions_is_never_bridged():
    decisions = Series().add(run(10)).add(range(18, N), tags=acquisition(2)).decide()
    assert taken(decisions) == [10]
    assert "dicom_left_out" in codes(decisions)


def test_table_stops_beside_each_other_are_two():
    decisions = halves({}, {"tags": acquisition(2), "aside": 12.0}, overlap=4).decide()
    assert taken(decisions) == [14]
    assert "dicom_left_out" in codes(decisions)


def test_two_reconstructions_with_other_middles_are_told_apart_by_their_place():
    other = Series().add(run(N)).add(run(N), 1, aside=7.0, tags={IN_PLANE: "7"}, order=(1, 0))
    assert taken(other.decide("all")) == [N, N]
    assert codes(other.decide()) == {"dicom_split"}


def other_series(ks, **changes):
    return Series().add(run(N)).add(ks, series="other", series_number=3, **changes).decide()


def test_a_series_that_goes_on_where_this_one_ends_is_named():
    decisions = other_series(range(N, 2 * N - 2))
    assert taken(decisions) == [N]
    (chosen,) = (d for d in decisions if d.choice is Choice.CHOSEN)
    assert "22 slices of series 3 were left out; they show 44 mm more" in chosen.notes[0].message
    assert chosen.notes[0].code == "dicom_left_out"


@pytest.mark.parametrize(
    ("ks", "changes"),
    [
        (range(4, N), {}),  # the same region
        (range(4, N + 4), {}),  # 8 mm more
        (range(N + 60, N + 80), {}),  # the other end of the body
        (range(N, 2 * N - 2), {"frame_of_reference": "other"}),
        (range(N, 2 * N - 2), {"orientation": CORONAL}),
    ],
)
def test_other_series_of_a_study_are_no_reason_to_look(ks, changes):
    assert "dicom_left_out" not in codes(other_series(ks, **changes))


def test_thick_and_thin_slices_are_not_missing():
    series = Series().add(range(12)).add(range(12, N), z=-22.0, step=4.0)
    (refused,) = series.decide()
    assert refused.choice is Choice.REFUSED
    said = "the distance of its slices changes: 11 of 2 mm, then 12 of 4 mm; none is missing"
    assert said in refused.reason
    assert "--uneven-slices interpolate" in refused.reason
    assert taken(series.decide(fill_gaps=True)) == [N]


@pytest.mark.parametrize("text", ["DOE^JOHN 1970", "ED"])
def test_free_text_of_a_header_is_never_repeated(text):
    strange = Series().add(run(N), rescale_type=text).decide()
    assert ("DOE" in strange[0].reason, "not Hounsfield" in strange[0].reason) == (False, True)
    other = Series().add(run(N), modality=text).decide()
    assert "DOE" not in other[0].reason
    syntax = Series().add(run(N), pixels=PixelFormat(text)).decide()
    assert "DOE" not in syntax[0].reason
    kernels = Series().add(run(N)).add(run(N), 1, tags=of(ConvolutionKernel=text)).decide()
    assert not any("DOE" in note.message for d in kernels for note in d.volume.notes)
