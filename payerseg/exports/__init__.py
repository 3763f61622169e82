"""Results in the formats of other tools; derived, never read back by the pipeline."""
