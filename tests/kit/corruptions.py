"""All deliberate corruptions of the data in `tests.kit.sample_account`, written straight into it.

Triggers and foreign keys are off meanwhile.
"""

from tests.kit.address_corruptions import ADDRESS_CORRUPTIONS
from tests.kit.corruption_parts import Corruption
from tests.kit.job_corruptions import JOB_CORRUPTIONS

__all__ = ["CORRUPTIONS", "Corruption"]

CORRUPTIONS = (*JOB_CORRUPTIONS, *ADDRESS_CORRUPTIONS)
