"""payerseg: find the spine in CT scans, name every vertebra, and segment each one."""

__version__ = "0.1.0"
