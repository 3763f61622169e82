"""Stages that misbehave, one way each; run by the real driver as real processes."""
