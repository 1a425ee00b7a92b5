"""What the items of a job's chunks are: one file for each kind of item.

`source.py` lists what depends on the kind. No other file of the engine asks which it is.
"""

from actions.registry import all_actions
from db.job_progress import JobToWork
from db.jobs import Job
from db.planning import JobToPlan as JobToPlan
from engine.sources.address_list import AddressListSource
from engine.sources.contacts import ContactSource
from engine.sources.import_rows import ImportRowSource
from engine.sources.source import Source
from schemas.requests import LISTED_ADDRESS_FIELD

_ADDRESS_LIST, _CONTACTS, _IMPORT_ROWS = AddressListSource(), ContactSource(), ImportRowSource()


def source_of(job: JobToWork | Job) -> Source:
    """Return the source of the job's items. Its action may be unknown to this version."""
    if LISTED_ADDRESS_FIELD in job.fields:
        return _ADDRESS_LIST
    action = all_actions().get(job.action)
    return _IMPORT_ROWS if action is not None and action.creates_contacts else _CONTACTS
