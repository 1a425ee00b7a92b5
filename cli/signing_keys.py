"""`sluice signing-keys`: what depends on each of SIGNING_KEYS."""

from cli import options
from cli.context import CommandContext, run
from cli.rendering import print_json, print_table
from producers.signing_keys import SigningKeyUse, list_signing_key_uses


def signing_keys(*, json_output: options.Json = False) -> None:
    """List SIGNING_KEYS by their ids, and what stops working without each.

    Renew what depends on a former key before you remove it from SIGNING_KEYS. Links in sent mail
    also depend on it, but are not listed.
    """

    async def work(ctx: CommandContext) -> list[SigningKeyUse]:
        return await list_signing_key_uses(ctx.pool, ctx.settings)

    found = run(work)
    if json_output:
        print_json([key._asdict() for key in found])
        return
    print_table(
        ("key", "state", "hooks", "accounts"),
        [
            (key.id, key.state, " ".join(map(str, key.hooks)), " ".join(key.accounts))
            for key in found
        ],
    )
