"""The programs of the pipeline: one per stage, run in a process of its own, imported by nobody.

By hand, with the request file that every run keeps:

    python -m stages.preparation OUTPUT/.payerseg/runs/RUN/0_preparation/request-0.json
"""
