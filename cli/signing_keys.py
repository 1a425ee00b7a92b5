"""`sluice signing-keys`: which secrets depend on which of SIGNING_KEYS."""

from cli import options
from cli.context import Surroundings, run
from cli.rendering import as_json, table
from producers.signing_keys import KeyUse, signing_key_uses


def signing_keys(*, as_json_: options.Json = False) -> None:
    """List SIGNING_KEYS by their ids, and what would stop working without each.

    Renew what depends on a former key before you take it out of SIGNING_KEYS. Links in sent mail
    depend on it as well, and are not listed.
    """

    async def work(here: Surroundings) -> list[KeyUse]:
        return await signing_key_uses(here.pool, here.settings)

    found = run(work)
    if as_json_:
        as_json([key._asdict() for key in found])
        return
    table(
        ("key", "state", "hooks", "accounts"),
        [
            (key.id, key.state, " ".join(map(str, key.hooks)), " ".join(key.accounts))
            for key in found
        ],
    )
