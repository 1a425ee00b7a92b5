"""Apply the posts of a hook's request one by one, and merge those that time does not allow."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import asyncpg

from db import jobs
from db.hooks import Hook
from producers.fair_executor import run_in_turn, run_off_loop
from producers.hook_fields import HookPost
from producers.immediate_opt_out import (
    OptOutReceipt,
    defer_to_workers,
    earlier_receipt,
    opt_out_immediately,
    repeat_request,
)
from producers.plausibility import MAX_INLINE_ADDRESSES, resolve_posts
from producers.recipient_events import day_key, event_key, opt_out_request
from producers.request_validation import validate_request
from producers.submit import submit
from runtime.settings import Settings
from schemas.actors import Actor, Via
from schemas.errors import IdempotencyConflict
from schemas.requests import JobRequest
from schemas.statuses import Status

APPLY_SECONDS = 5.0
"""How long to apply the posts of a request one by one. The rest is stored for the workers,
because a sender that waits too long for a response sends all of it again."""


class HookOptOut(NamedTuple):
    """An opt-out that a hook received. `note` and `occurred_at` can be stored."""

    post: HookPost
    note: str | None = None
    occurred_at: datetime | None = None

    def key(self, hook_id: int, via: Via) -> str:
        """Return the idempotency key: of the sender's event id, or of what was said on this day."""
        words, post = ("hook", hook_id, "form" if via is Via.HOOK_FORM else "event"), self.post
        if post.event_id is not None:
            return event_key(*words, event_id=post.event_id)
        moment = self.occurred_at.isoformat() if self.occurred_at else ""
        # The same again is the same opt-out: a sender without a response sends it again.
        return day_key(*words, act=[*post.match_keys, moment, self.note or ""], kind=post.kind)


class _MergedEvents(NamedTuple):
    """Events that are stored as one job: their addresses, and the request hashes by key."""

    addresses: list[str]
    hashes: dict[str, str]


class _MergedEvent(NamedTuple):
    """An event that is merged with others; `is_first` unless the request repeats it."""

    kind: Status
    is_first: bool


class HookOptOutApplier(NamedTuple):
    """Applies the opt-outs of one request, which the `actor` sent."""

    pool: asyncpg.Pool
    settings: Settings
    hook: Hook
    actor: Actor
    correlation_id: str

    async def apply(self, opt_outs: Sequence[HookOptOut]) -> list[OptOutReceipt | None]:
        """Return a receipt for each, or None if its id was used for a different opt-out.

        They are applied in their order. After `APPLY_SECONDS` the rest is stored as one job for
        each kind, which workers begin before all other work.
        """
        until = monotonic() + APPLY_SECONDS
        posts = await resolve_posts(self.pool, self.hook, [each.post for each in opt_outs])
        meant = [each._replace(post=post) for each, post in zip(opt_outs, posts, strict=True)]
        earlier = await self._find_earlier(meant)
        done: list[OptOutReceipt | None] = []
        for each in meant:
            if monotonic() > until:
                break
            done.append(await self._apply(self._request_of(each), earlier))
            # A repeated event awaits nothing, so others could not run meanwhile.
            await asyncio.sleep(0)
        left = meant[len(done) :]
        return [*done, *await self._defer_to_workers(left)] if left else done

    async def _find_earlier(self, opt_outs: Sequence[HookOptOut]) -> dict[str, jobs.InsertedJob]:
        many = len(opt_outs) > MAX_INLINE_ADDRESSES
        keys = await run_off_loop(
            self.hook.account, lambda: [self._key(each) for each in opt_outs], is_long=many
        )
        async with self.pool.acquire() as connection:
            return await jobs.list_jobs_by_key(connection, self.hook.account_id, keys)

    async def _apply(
        self, request: JobRequest, earlier: dict[str, jobs.InsertedJob]
    ) -> OptOutReceipt | None:
        try:
            answer = _answer_or_request(request, earlier)
            if not isinstance(answer, JobRequest):
                return answer
            if len(answer.selection.addresses or ()) > self.settings.chunk_size:
                stored = await submit(self.pool, self.settings, answer, actor=self.actor)
                return OptOutReceipt(stored.job_id, stored.created, applied=False)
            return await opt_out_immediately(
                self.pool, self.settings, answer, account_id=self.hook.account_id, actor=self.actor
            )
        except IdempotencyConflict:
            return None

    async def _defer_to_workers(self, opt_outs: Sequence[HookOptOut]) -> list[OptOutReceipt | None]:
        # Read again: the events that were just applied are among them.
        earlier = await self._find_earlier(opt_outs)
        # Thousands of addresses are normalized, which may take 0.1 ms for each.
        answers, parts = await run_in_turn(
            self.hook.account, lambda: self._merge_events(opt_outs, earlier)
        )
        stored = {kind: await self._submit(kind, part) for kind, part in parts.items()}
        return [
            stored[each.kind]._replace(created=each.is_first and stored[each.kind].created)
            if isinstance(each, _MergedEvent)
            else each
            for each in answers
        ]

    async def _submit(self, kind: Status, merged: _MergedEvents) -> OptOutReceipt:
        """Store the events as one job, which has the keys of all of them."""
        hook, keys = self.hook, merged.hashes
        key = day_key("hook", hook.id, "rest", act=sorted(keys), kind=kind)
        note = "reported together with other events"
        request = await run_in_turn(
            hook.account,
            lambda: self._request(addresses=merged.addresses, kind=kind, key=key, note=note),
        )
        return await defer_to_workers(
            self.pool,
            self.settings,
            request,
            error="TooManyEvents",
            merged_hashes=keys,
            actor=self.actor,
        )

    def _request(self, **opt_out: Any) -> JobRequest:
        hook = self.hook
        return opt_out_request(
            account=hook.account,
            source=hook.source,
            requested_by=f"hook {hook.id} ({hook.source})",
            correlation_id=self.correlation_id,
            **opt_out,
        )

    def _key(self, opt_out: HookOptOut) -> str:
        return opt_out.key(self.hook.id, self.actor.via)

    def _request_of(self, opt_out: HookOptOut) -> JobRequest:
        post, note, occurred_at = opt_out
        return self._request(
            addresses=post.addresses,
            kind=post.kind,
            key=self._key(opt_out),
            note=note,
            occurred_at=occurred_at,
        )

    def _merge_events(
        self, opt_outs: Sequence[HookOptOut], earlier: dict[str, jobs.InsertedJob]
    ) -> tuple[list[OptOutReceipt | _MergedEvent | None], dict[Status, _MergedEvents]]:
        """Return the answer to each event, and what to store for each kind."""
        answers: list[OptOutReceipt | _MergedEvent | None] = []
        merged: dict[Status, _MergedEvents] = {}
        hashes: dict[str, str] = {}
        for each in opt_outs:
            request = _answer_or_request(self._request_of(each), earlier)
            if not isinstance(request, JobRequest):
                answers.append(request)
                continue
            key, digest = request.idempotency_key or "", validate_request(request).request_hash
            is_first = key not in hashes
            if hashes.setdefault(key, digest) != digest:
                answers.append(None)
                continue
            answers.append(_MergedEvent(each.post.kind, is_first))
            if is_first:
                part = merged.setdefault(each.post.kind, _MergedEvents([], {}))
                part.addresses.extend(request.selection.addresses or ())
                part.hashes[key] = digest
        return answers, merged


def _answer_or_request(
    request: JobRequest, earlier: dict[str, jobs.InsertedJob]
) -> OptOutReceipt | JobRequest | None:
    """Return the receipt of an earlier job, or the request to do.

    Return None if the job with its key is of a different request.
    """
    stored = earlier.get(request.idempotency_key or "")
    if stored is None:
        return request
    if stored.request_hash != validate_request(request).request_hash:
        return None
    return repeat_request(request, stored) if stored.is_incomplete else earlier_receipt(stored)
