"""DICOM in: find series in folders and zips, check them, choose the CT volume, read it. Needs pydicom."""
