"""Recipients' own opt-outs over HTTP: by services with a key, senders at a hook, and links."""

import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode

from db.hooks import Hook
from producers.hook_events import Event, read_event, told_of_event
from producers.hook_fields import Field, read_post
from producers.hook_forms import told_of_form
from producers.one_click import PATH
from producers.recipient_events import event_key
from runtime.settings import Settings
from runtime.signing import hook_secret, hook_token, one_click_token
from schemas.addresses import identify
from schemas.json_input import Pairs
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import not_in_force
from tests.chaos.records import AcknowledgedJob, AddressedOptOut, Records, Violation
from tests.chaos.web_client import Answer, WebClient
from tests.chaos.web_producers import REPLAYED

_SOURCE = "storm"

_JUNK = [("name", "Ann"), ("owner_email", "owner@x.example"), *[(f"x{n}", "") for n in range(300)]]
_LINK_TAILS = ("", "/", ".", ")", "%3E?utm_source=mail")
_CLICKS: tuple[dict[str, Any], ...] = (
    {"data": {"List-Unsubscribe": "One-Click"}},
    {},
    {"content": b"List-Unsubscribe=One-Click\r\n", "headers": {"Content-Type": "text/plain"}},
    {"content": b"\xff" * 100, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    {"json": {"more": [1]}},
)
"""What mail clients post to a link; each opts out as `list_unsubscribe`."""


class Recipient(NamedTuple):
    """Who opts out: an address, which has no id where the account does not know it yet. What was
    told may be told once `again`, as the same event.
    """

    address: str
    address_id: int | None
    kind: str
    again: bool


class WebRecipients:
    """The doors for opt-outs of one account."""

    def __init__(
        self,
        hook: Hook,
        settings: Settings,
        clients: tuple[WebClient, WebClient],
        observer: Observer,
        records: Records,
    ) -> None:
        self._hook = hook
        self._settings = settings
        self._with_key, self._without = clients
        self._observer = observer
        self._records = records
        self._numbers = itertools.count(1)
        self.doors: dict[str, Callable[[Recipient], Awaitable[None]]] = {
            "api": self._by_api,
            "event": self._by_event,
            "form": self._by_form,
            "one_click": self._by_link,
        }

    async def _by_api(self, who: Recipient) -> None:
        """`POST /v1/opt-outs` with an event id."""
        event_id = self._event_id()
        body = {
            "address": who.address,
            "kind": who.kind,
            "source": _SOURCE,
            "event_id": event_id,
        }

        async def tell() -> Answer:
            return await self._with_key.ask("opt out", "POST", "/v1/opt-outs", json=body)

        first = await tell()
        await self._keep(who, event_key("opt-out", _SOURCE, event_id=event_id), first.body)
        if who.again:
            second = await tell()
            if second.body["created"] or second.body["job"] != first.body["job"]:
                self._see(REPLAYED, f"opt-out of job {first.body['job']}")

    async def _by_event(self, who: Recipient) -> None:
        """A signed event of the account's hook."""
        event = {"event_id": self._event_id(), "address": who.address, "kind": who.kind.upper()}
        bad = {"event_id": "none", "addres": who.address, "more": {"of": "it"}}
        secret = hook_secret(self._settings, self._hook.id, self._hook.salt)
        path = f"/v1/hooks/{self._hook.id}/events"

        async def tell() -> dict[str, Any]:
            answer = await self._without.ask(
                "tell an event", "POST", path, secret=secret, json=[bad, event]
            )
            _, taken = answer.body["events"]
            return dict(taken)

        known = read_event(Pairs(event.items()))
        assert isinstance(known, Event)
        told = told_of_event(self._hook, known)
        await self._keep(who, told.key, await tell())
        if who.again:
            self._expect_known(await tell())

    async def _by_form(self, who: Recipient) -> None:
        """A form of the account's hook, as Keap posts it: without an id of its own. Senders differ
        in how they name fields and encode them.
        """
        number = next(self._numbers)
        name = ("email", "data[email]", "inf_field_Email", "Contact.Email")[number % 4]
        form = {name: who.address, "kind": f" {who.kind.title()}", "Id": f"storm-{number}"}
        token = hook_token(self._settings, self._hook.id, self._hook.salt)
        content: dict[str, Any] = (
            {"json": form},
            {"content": urlencode(_JUNK + list(form.items())).encode()},
            {"data": form},
        )[number % 3]

        async def tell() -> dict[str, Any]:
            answer = await self._without.ask(
                "post a form", "POST", f"/v1/hooks/form/{token}/", **content
            )
            return dict(answer.body)

        taken = await tell()
        post = read_post(Field(name, text) for name, text in form.items())
        told = told_of_form(self._hook, post)
        await self._keep(who, told.key, taken)
        if who.again:
            self._expect_known(await tell())

    async def _by_link(self, who: Recipient) -> None:
        """The mail client's button, or the page's; of who has no mail yet there is no link."""
        if who.address_id is None:
            await self._by_api(who)
            return
        kind = "manual" if who.kind == "manual" else "list_unsubscribe"
        number = next(self._numbers)
        tail = _LINK_TAILS[number % len(_LINK_TAILS)]
        click = {"data": {"confirm": "yes"}} if kind == "manual" else _CLICKS[number % len(_CLICKS)]
        token = one_click_token(self._settings, self._hook.account_id, who.address_id)
        for _ in range(2 if who.again else 1):
            answer = await self._without.ask(
                "unsubscribe", "POST", f"{PATH}/{token}{tail}", **click
            )
            day = datetime.now(UTC).date()
            # A try of which the body was cut off has opted out as any click does.
            cut_off = f"one-click {who.address_id} list_unsubscribe {day}"
            self._records.may_be_there.add((self._hook.account, cut_off))
            # A page does not tell what it was; that is for the check of what is in force.
            applied = answer.status == HTTPStatus.OK
            await self._keep(who, f"one-click {who.address_id} {kind} {day}", {"applied": applied})

    async def _keep(self, who: Recipient, key: str | None, taken: dict[str, Any]) -> None:
        """Write down what was acknowledged, and look whether it is so."""
        assert key is not None
        match_key = identify(who.address).match_key
        account = self._hook.account
        self._records.addressed.append(AddressedOptOut(account, key, match_key, datetime.now(UTC)))
        self._records.jobs.append(AcknowledgedJob(taken.get("job"), account, key))
        if not taken["applied"]:
            return
        self._records.seen += await not_in_force(
            self._observer, account, match_key=match_key, key=key
        )

    def _expect_known(self, taken: dict[str, Any]) -> None:
        if taken["created"]:
            self._see(REPLAYED, f"an event of hook {self._hook.id}")

    def _event_id(self) -> str:
        return f"storm-{next(self._numbers)}"

    def _see(self, check: str, what: str) -> None:
        self._records.seen.append(Violation(check, what))
