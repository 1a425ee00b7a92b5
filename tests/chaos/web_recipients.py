"""Recipients' opt-outs over HTTP: by services with a key, senders at a hook, and links."""

import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode

from db.hooks import Hook
from producers.hook_forms import form_to_opt_out
from producers.hook_json import Field
from producers.hook_opt_outs import HookOptOut
from producers.one_click import PATH
from producers.recipient_events import event_key
from runtime.settings import Settings
from runtime.signing import hook_secret, hook_token, one_click_token
from schemas.actors import Via
from schemas.addresses import normalize_address
from tests.chaos.acknowledgements import AcknowledgedJob, OptOutByAddress, Records, Violation
from tests.chaos.observer import Observer
from tests.chaos.opt_out_checks import find_ineffective_opt_outs
from tests.chaos.web_client import Answer, WebClient
from tests.chaos.web_producers import REPLAYED
from tests.kit.hook_messages import read_event, read_post

_SOURCE = "chaos"

_JUNK = [("name", "Ann"), ("owner_email", "owner@x.example"), *[(f"x{n}", "") for n in range(300)]]
_LINK_TAILS = ("", "/", ".", ")", "%3E?utm_source=mail")
_CLICKS: tuple[dict[str, Any], ...] = (
    {"data": {"List-Unsubscribe": "One-Click"}},
    {},
    {"content": b"List-Unsubscribe=One-Click\r\n", "headers": {"Content-Type": "text/plain"}},
    {"content": b"\xff" * 100, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    {"json": {"more": [1]}},
)
"""Requests that mail clients post to a link; each opts out as `list_unsubscribe`."""


class Recipient(NamedTuple):
    """A recipient who opts out; `address_id` is None if the account does not know the address. With
    `again`, the same event may be sent a second time.
    """

    address: str
    address_id: int | None
    kind: str
    again: bool


class WebRecipients:
    """Uses the routes for opt-outs of one account."""

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
        self._with_key, self._anonymous = clients
        self._observer = observer
        self._records = records
        self._numbers = itertools.count(1)
        self.entry_points: dict[str, Callable[[Recipient], Awaitable[None]]] = {
            "api": self._opt_out_by_api,
            "event": self._opt_out_by_event,
            "form": self._opt_out_by_form,
            "one_click": self._opt_out_by_link,
        }

    async def _opt_out_by_api(self, recipient: Recipient) -> None:
        """Post to `/v1/opt-outs` with an event id."""
        event_id = self._event_id()
        body = {
            "address": recipient.address,
            "kind": recipient.kind,
            "source": _SOURCE,
            "event_id": event_id,
        }

        async def send() -> Answer:
            return await self._with_key.ask("opt out", "POST", "/v1/opt-outs", json=body)

        first = await send()
        await self._keep(recipient, event_key("opt-out", _SOURCE, event_id=event_id), first.body)
        if recipient.again:
            second = await send()
            if second.body["created"] or second.body["job_id"] != first.body["job_id"]:
                self._report_violation(REPLAYED, f"opt-out of job {first.body['job_id']}")

    async def _opt_out_by_event(self, recipient: Recipient) -> None:
        """Post a signed event to the account's hook."""
        event = {
            "event_id": self._event_id(),
            "address": recipient.address,
            "kind": recipient.kind.upper(),
        }
        bad = {"event_id": "none", "addres": recipient.address, "more": {"of": "it"}}
        secret = hook_secret(self._settings, self._hook.id, self._hook.salt)
        path = f"/v1/hooks/{self._hook.id}/events"

        async def send() -> dict[str, Any]:
            answer = await self._anonymous.ask(
                "tell an event", "POST", path, secret=secret, json=[bad, event]
            )
            _, receipt = answer.body["events"]
            return dict(receipt)

        opt_out = read_event(event)
        assert isinstance(opt_out, HookOptOut)
        key = opt_out.key(self._hook.id, Via.HOOK_EVENTS)
        await self._keep(recipient, key, await send())
        if recipient.again:
            self._expect_known(await send())

    async def _opt_out_by_form(self, recipient: Recipient) -> None:
        """Post a form to the account's hook, as Keap does, without an id. Senders differ in field
        names and encoding.
        """
        number = next(self._numbers)
        name = ("email", "data[email]", "inf_field_Email", "Contact.Email")[number % 4]
        form = {
            name: recipient.address,
            "kind": f" {recipient.kind.title()}",
            "Id": f"chaos-{number}",
        }
        token = hook_token(self._settings, self._hook.id, self._hook.salt)
        content: dict[str, Any] = (
            {"json": form},
            {"content": urlencode(_JUNK + list(form.items())).encode()},
            {"data": form},
        )[number % 3]

        async def send() -> dict[str, Any]:
            answer = await self._anonymous.ask(
                "post a form", "POST", f"/v1/hooks/form/{token}/", **content
            )
            return dict(answer.body)

        receipt = await send()
        post = read_post(Field(name, text) for name, text in form.items())
        key = form_to_opt_out(self._hook, post).key(self._hook.id, Via.HOOK_FORM)
        await self._keep(recipient, key, receipt)
        if recipient.again:
            self._expect_known(await send())

    async def _opt_out_by_link(self, recipient: Recipient) -> None:
        """Use the mail client's button or the page. A recipient without mail has no link yet."""
        if recipient.address_id is None:
            await self._opt_out_by_api(recipient)
            return
        kind = "manual" if recipient.kind == "manual" else "list_unsubscribe"
        number = next(self._numbers)
        tail = _LINK_TAILS[number % len(_LINK_TAILS)]
        click = {"data": {"confirm": "yes"}} if kind == "manual" else _CLICKS[number % len(_CLICKS)]
        token = one_click_token(self._settings, self._hook.account_id, recipient.address_id)
        for _ in range(2 if recipient.again else 1):
            answer = await self._anonymous.ask(
                "unsubscribe", "POST", f"{PATH}/{token}{tail}", **click
            )
            day = datetime.now(UTC).date()
            # An attempt whose body was cut off has opted out like any other click.
            cut_off = f"one-click {recipient.address_id} list_unsubscribe {day}"
            self._records.uncertain_jobs.add((self._hook.account, cut_off))
            # The page does not state the status; the check of opt-outs in force covers that.
            applied = answer.status == HTTPStatus.OK
            await self._keep(
                recipient, f"one-click {recipient.address_id} {kind} {day}", {"applied": applied}
            )

    async def _keep(self, recipient: Recipient, key: str | None, receipt: dict[str, Any]) -> None:
        """Record the acknowledgement, and check that the opt-out is in force."""
        assert key is not None
        match_key = normalize_address(recipient.address).match_key
        account = self._hook.account
        self._records.opt_outs_by_address.append(
            OptOutByAddress(account, key, match_key, datetime.now(UTC))
        )
        self._records.jobs.append(AcknowledgedJob(receipt.get("job"), account, key))
        if not receipt["applied"]:
            return
        self._records.violations += await find_ineffective_opt_outs(
            self._observer, account, match_key=match_key, key=key
        )

    def _expect_known(self, receipt: dict[str, Any]) -> None:
        if receipt["created"]:
            self._report_violation(REPLAYED, f"an event of hook {self._hook.id}")

    def _event_id(self) -> str:
        return f"chaos-{next(self._numbers)}"

    def _report_violation(self, check: str, what: str) -> None:
        self._records.violations.append(Violation(check, what))
