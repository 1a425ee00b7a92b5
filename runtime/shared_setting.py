"""Warn at start if a setting that must be equal in all processes differs.

`sluice migrate` puts it in force. A process works with its own value all the same: which of the two
is right, only the people who run it know.
"""

from runtime import events, logs
from runtime.settings import Settings

log = logs.get_logger()

NAME = "SHARED_ADDRESS_LIMIT"


def warn_if_different(settings: Settings, stored_value: int | None) -> None:
    """Write `setting.differs` where this process has another limit than the one in force."""
    own_value = settings.shared_address_limit
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


def limit_to_store(settings: Settings, stored_value: int | None) -> int | None:
    """Return the limit that `sluice migrate` is to put in force; None where it stays as it is.

    A value that is only the default changes nothing: who migrates from another machine may not have
    the setting there.
    """
    own_value = settings.shared_address_limit
    given = "shared_address_limit" in settings.model_fields_set
    return own_value if stored_value is None or (given and stored_value != own_value) else None
