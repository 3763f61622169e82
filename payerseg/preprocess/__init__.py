"""Scan to network input: the one path, used by inference, training and evaluation alike."""
