"""Numbers a spine report wants: volumes, body heights, HU, tilts and angles; no truth needed."""
