"""Filters for the search field of MLflow's UI: the usual ones, and how a value stands in one."""

from __future__ import annotations

CURVES_OF_A_DATASET = "tags.kind = 'curve' and tags.dataset = 'digits'"
TRIALS_OF_A_STRATEGY = "tags.kind = 'trial' and tags.strategy = 'templates' and metrics.scale >= 4"
CURVES_THAT_GAIN = "tags.kind = 'curve' and tags.role = 'strategy' and tags.verdict = 'up'"

# what an experiment says of itself
EXPERIMENT_NOTE = f"""\
Accuracy of CLIP labelling against **scale**, the number of equivalent categories per class. \
A study run holds its curves, a curve run its trials. Filters for the search field of the runs:

- the curves of one dataset: `{CURVES_OF_A_DATASET}`
- the trials of one strategy from scale 4 on: `{TRIALS_OF_A_STRATEGY}`
- the curves that gain: `{CURVES_THAT_GAIN}`

Sorted by *Run Name* they are a plain list. To draw accuracy over scale, select curve runs, press *Compare*, and \
choose the metric accuracy below; step is the scale. `attributes.status = 'FINISHED'` leaves out what a sweep has not \
completed.
"""


def filter_of(**tags: str) -> str:
    """Return the filter for runs with these tags.

    >>> filter_of(kind="curve", dataset="Ann's")
    'tags.kind = \\'curve\\' and tags.dataset = "Ann\\'s"'
    """
    return " and ".join(f"tags.{name} = {_quoted(value)}" for name, value in tags.items())


def _quoted(text: str) -> str:
    # names of folders get into keys; a filter has two kinds of quotes and no way to escape one
    return f'"{text}"' if "'" in text else f"'{text}'"
