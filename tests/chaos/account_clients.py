"""The HTTP clients of each account that the producers use."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from db.hooks import Hook, get_hook
from producers.hooks import create_hook
from producers.keys import Scope, create_key
from runtime.settings import Settings
from tests.chaos.acknowledgements import Records
from tests.chaos.observer import Observer
from tests.chaos.traffic_plan import ACCOUNTS
from tests.chaos.web_client import WebClient
from tests.chaos.web_producers import WebProducers
from tests.chaos.web_readers import WebReaders
from tests.chaos.web_recipients import WebRecipients


class AccountClients(NamedTuple):
    """The HTTP clients of one account."""

    producers: WebProducers
    recipients: WebRecipients
    readers: WebReaders


@asynccontextmanager
async def open_account_clients(
    url: str, settings: Settings, observer: Observer, records: Records
) -> AsyncIterator[dict[str, AccountClients]]:
    """Create a key and a hook for each existing account, and yield its clients."""
    async with AsyncExitStack() as stack:

        def client(key: str | None = None) -> WebClient:
            made = WebClient(url, records, key)
            stack.push_async_callback(made.close)
            return made

        clients = {}
        for account in ACCOUNTS:
            key = await create_key(
                observer.pool, account=account, name="a service", scopes=list(Scope)
            )
            hook = await _hook_of(observer, settings, account)
            with_key, without = client(key.secret), client()
            clients[account] = AccountClients(
                WebProducers(account, with_key, records),
                WebRecipients(hook, settings, (with_key, without), observer, records),
                WebReaders(account, with_key, observer, records),
            )
        yield clients


async def _hook_of(observer: Observer, settings: Settings, account: str) -> Hook:
    made = await create_hook(observer.pool, settings, account=account, source="chaos")
    async with observer.pool.acquire() as connection:
        hook = await get_hook(connection, made.id)
    assert hook is not None
    return hook
