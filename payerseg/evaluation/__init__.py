"""Scores against a truth: landmarks, masks, surfaces; tables of them; comparisons."""
