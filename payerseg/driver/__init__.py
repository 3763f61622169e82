"""Decides what to run, spawns one process per stage, and watches it; standard library only."""
