"""All deliberate corruptions of the data in `tests.kit.sample_account`, as SQL.

They are written with triggers and foreign keys disabled.
"""

from tests.kit.address_corruptions import ADDRESS_CORRUPTIONS
from tests.kit.corruption_parts import Corruption
from tests.kit.job_corruptions import JOB_CORRUPTIONS

__all__ = ["CORRUPTIONS", "Corruption"]

CORRUPTIONS = (*JOB_CORRUPTIONS, *ADDRESS_CORRUPTIONS)
