"""The parameters of the operations on redaction jobs (contract §2.15): those of stripe-python 16.1.0b1."""

from __future__ import annotations

from ledger.domain.redaction_job import BEHAVIORS, ERROR, STATUSES
from ledger.domain.redaction_job_decisions import OBJECTS_MAX, ROOT_TYPES
from ledger.wire.parameters import EXPAND, PAGINATION, Array, Hash, ParameterTable
from ledger.wire.scalars import Choice, Text

_BEHAVIOR = (
    "`error`: report everything that stands in the way; `fix`: cancel open payment intents at the run."
)

CREATE = ParameterTable(
    {
        "expand": EXPAND,
        "objects": Hash(
            {
                name: Array(
                    Text(length_max=255),
                    items_max=OBJECTS_MAX,
                    description=f"Ids of objects of the type {object_type}.",
                )
                for name, object_type in ROOT_TYPES.items()
            },
            required=True,
            description="The objects to erase, with all that belongs to them: at most 10.",
        ),
        "validation_behavior": Choice(BEHAVIORS, default=ERROR, description=_BEHAVIOR),
    }
)

UPDATE = ParameterTable({"expand": EXPAND, "validation_behavior": Choice(BEHAVIORS, description=_BEHAVIOR)})

RETRIEVE = VALIDATE = RUN = CANCEL = ParameterTable({"expand": EXPAND})

LIST = ParameterTable({**PAGINATION, "status": Choice(STATUSES, description="Only jobs with this status.")})

LIST_ERRORS = ParameterTable(PAGINATION)
