"""A pipeline of two or three stages, without networks and images: text in, text out.

The first copies the user's file; how the second behaves for a case is the text itself.
"""

from dataclasses import replace

from payerseg.results.artifacts import Artifact
from payerseg.stagekit.catalog import PREPARATION, SPINE_LOCALIZATION, VERTEBRAE_LOCALIZATION

TEXT = Artifact("text", "step0_preparation/text.txt", "text", keep="standard")
DERIVED = Artifact(
    "derived", "step1_spine_localization/{case_id}_derived.txt", "text", editable=True
)
EXTRA = Artifact("extra", "step1_spine_localization/extra", "text", optional=True, directory=True)

COPY = replace(PREPARATION, module="fake_stages.copy", reads=(), writes=(TEXT,))
BEHAVE = replace(
    SPINE_LOCALIZATION,
    module="fake_stages.behave",
    reads=(TEXT,),
    writes=(DERIVED, EXTRA),
    weights=False,
)
PIPELINE = (COPY, BEHAVE)

COUNT = Artifact("count", "step2_vertebrae_localization/count.txt", "text")
FINISH = replace(
    VERTEBRAE_LOCALIZATION,
    module="fake_stages.finish",
    reads=(DERIVED,),
    writes=(COUNT,),
    weights=False,
)
LONG_PIPELINE = (COPY, BEHAVE, FINISH)

EDITS = replace(BEHAVE, module="fake_stages.edits")
EDITED_PIPELINE = (COPY, replace(BEHAVE, edits=EDITS.module), FINISH)
