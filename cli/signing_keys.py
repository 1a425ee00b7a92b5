"""`sluice signing-keys`: what depends on each of SIGNING_KEYS."""

from cli import options
from cli.context import run
from cli.listing import show_list
from producers.signing_keys import list_signing_key_uses


def signing_keys(*, json_output: options.Json = False) -> None:
    """List SIGNING_KEYS by their ids, and what stops working without each.

    Renew what depends on a former key before you remove it from SIGNING_KEYS. Links in sent mail
    also depend on it, but are not listed.
    """
    show_list(
        run(lambda ctx: list_signing_key_uses(ctx.pool, ctx.settings)),
        ("key", "state", "hooks", "accounts"),
        lambda key: (key.id, key.state, " ".join(map(str, key.hooks)), " ".join(key.accounts)),
        json_output=json_output,
    )
