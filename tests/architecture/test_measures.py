"""The house stays as small and as straight as docs/adr/0018-the-house.md says."""

import re
from itertools import pairwise

import house_measures as house

MOST = {
    "lines": 39_500,
    "files": 225,
    "code lines reachable from a run on a NIfTI": 12_800,
    "files from the entry script to a written mask": 12,
    "circles of imports": 0,
}
ROOM_ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", re.MULTILINE)


def test_the_house_has_not_grown():
    """Whoever needs more room raises the bound here and says in the decision what for."""
    found = house.measures()
    assert {what: found[what] for what in MOST if found[what] > MOST[what]} == {}


def test_each_file_on_the_way_to_a_mask_names_the_next():
    """A newcomer can walk it: what is opened says where to go on."""
    way = house.way_to_a_mask()
    for here, there in pairwise(way):
        text = (house.REPOSITORY / here).read_text(encoding="utf-8")
        module = there.removesuffix(".py").replace("/", ".")
        assert re.search(rf"\b{re.escape(module)}\b", text), f"{here} does not name {there}"


def test_the_decision_gives_a_reason_for_every_room():
    rows = {name for name, _, _ in ROOM_ROW.findall(house.decision())}
    assert set(house.rooms()) - {"payerseg", "main_test_overlap_cropped"} <= rows


def test_the_decision_tells_the_sizes_of_the_rooms():
    """To a tenth: the page need not follow every change, but it must not mislead."""
    rooms = house.rooms()
    told = {name: (int(n), int(lines)) for name, n, lines in ROOM_ROW.findall(house.decision())}
    wrong = {
        name: (told[name], rooms[name])
        for name in told
        if abs(told[name][1] - rooms[name][1]) > 0.1 * rooms[name][1]
    }
    assert wrong == {}


def test_the_rooms_that_contributing_names_exist():
    """A line sent to a room that is gone is written somewhere else."""
    text = (house.REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where does my line go?")[2].partition("\n## ")[0]
    places = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", table)
    assert len(places) > 20
    bases = (house.REPOSITORY, house.REPOSITORY / "payerseg")
    assert [p for p in places if not any((base / p).exists() for base in bases)] == []
