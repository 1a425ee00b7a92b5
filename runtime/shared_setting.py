"""Saying at start that a setting differs which has to be the same in all processes.

`sluice migrate` puts it in force. A process works with its own value all the same: which of the two
is right, only the people who run it know.
"""

from runtime import events, logs
from runtime.settings import Settings

log = logs.get()

NAME = "SHARED_ADDRESS_LIMIT"


def log_difference(settings: Settings, in_force: int | None) -> None:
    """Write `setting.differs` where this process has another limit than the one in force."""
    here = settings.shared_address_limit
    if in_force is None or in_force == here:
        return
    log.warning(
        events.SETTING_DIFFERS,
        setting=NAME,
        here=str(here),
        in_force=str(in_force),
        what_to_do=f"Set {NAME} to {in_force} here and start the process again; or set it to {here}"
        " everywhere, run `sluice migrate`, and start all processes again.",
    )


def chosen_limit(settings: Settings, in_force: int | None) -> int | None:
    """Return the limit that `sluice migrate` is to put in force; None where it stays as it is.

    A value that is only the default changes nothing: who migrates from another machine may not have
    the setting there.
    """
    here = settings.shared_address_limit
    given = "shared_address_limit" in settings.model_fields_set
    return here if in_force is None or (given and in_force != here) else None
