"""Warn at start if a setting that must be equal in all processes differs.

`sluice migrate` stores it. A process still works with its own value: only the people who run it
know which of the two is right.
"""

from runtime import events, logs
from runtime.settings import Settings

log = logs.get_logger()

NAME = "ROLE_ADDRESS_LIMIT"


def warn_if_different(settings: Settings, stored_value: int | None) -> None:
    """Log `setting.differs` if this process has another limit than the stored one."""
    own_value = settings.role_address_limit
    if stored_value is None or stored_value == own_value:
        return
    log.warning(
        events.SETTING_DIFFERS,
        setting=NAME,
        own_value=str(own_value),
        stored_value=str(stored_value),
        remedy=f"Set {NAME} to {stored_value} here and start the process again; or set it to"
        f" {own_value} everywhere, run `sluice migrate`, and start all processes again.",
    )
