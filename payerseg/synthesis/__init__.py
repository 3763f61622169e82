"""Labelled CT-like volumes without limit: real vertebrae re-posed, or a phantom from numbers alone."""
