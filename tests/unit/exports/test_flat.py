"""One flat export, for a run and for the command."""

import json
import os

from payerseg.exports.flat import remove_flat, write_flat


def test_a_copy_made_again_only_when_needed(tmp_path):
    seg = tmp_path / "seg.nii.gz"
    seg.write_text("mask")
    points = [(19, (1.5, -2.25, 100.125)), (20, (1.0, -2.0, 70.0))]
    mask, table, plain = write_flat("a", seg, points, tmp_path / "flat")
    assert table.read_text() == "label,X,Y,Z\n19,1.5,-2.25,100.125\n20,1.0,-2.0,70.0\n"
    assert json.loads(plain.read_text())[1] == {"label": 20, "X": 1.0, "Y": -2.0, "Z": 70.0}
    inode = mask.stat().st_ino
    assert inode != seg.stat().st_ino, "a link would let an edit reach the original"
    write_flat("a", seg, points, tmp_path / "flat")
    assert mask.stat().st_ino == inode
    seg.write_text("edit")
    os.utime(seg, (5, 5))
    write_flat("a", seg, points, tmp_path / "flat")
    assert mask.read_text() == "edit"
    remove_flat("a", tmp_path / "flat")
    assert not any((tmp_path / "flat").iterdir())
