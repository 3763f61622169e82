"""Fixtures of several rooms."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode: no packages among tests
from result_folders import seal as seal_folder


@pytest.fixture(scope="session")
def seal():
    """The function: case folder → the same with manifests and status, as if a run had made it."""
    return seal_folder


@pytest.fixture(scope="session")
def dicom():
    """Functions that write and read DICOM series, see `dicom/dicom_writer.py`."""
    pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")
    path = Path(__file__).with_name("dicom") / "dicom_writer.py"
    spec = importlib.util.spec_from_file_location("dicom_writer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Writer


@pytest.fixture
def ct(dicom):
    """A small CT, different in every voxel."""
    return dicom.phantom(dicom.grid())
