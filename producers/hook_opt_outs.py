"""The opt-outs of a hook's message: applied one by one, and what is too much for that together."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import NamedTuple

import asyncpg

from db import jobs
from db.hooks import Hook
from producers.fair_executor import run_in_turn, run_off_loop
from producers.hook_fields import HookPost
from producers.immediate_opt_out import (
    OptOutReceipt,
    earlier_receipt,
    opt_out_immediately,
    repeat_request,
)
from producers.plausibility import MAX_INLINE_ADDRESSES, resolve_posts
from producers.recipient_events import day_key, opt_out_request
from producers.submit import require_same_request, submit, validate_request
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import Actor
from schemas.errors import IdempotencyConflict
from schemas.requests import JobRequest
from schemas.statuses import Status

log = logs.get_logger()

APPLY_SECONDS = 5.0
"""How long the opt-outs of a message are applied one at a time. What is left then is stored for the
workers: a sender that has no answer in time sends all of it again."""


class HookOptOut(NamedTuple):
    """What a hook was told. Its idempotency key is of the post as it is meant."""

    post: HookPost
    key_of: Callable[[HookPost], str]
    note: str | None = None
    occurred_at: datetime | None = None

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.key_of(self.post)


class _MergedEvents(NamedTuple):
    """Events that are stored as one job: their addresses, and what each asks for, by its key."""

    addresses: list[str]
    hashes: dict[str, str]


class _MergedEvent(NamedTuple):
    """An event that is stored with others of its kind; `is_first` where it is not told twice."""

    kind: Status
    is_first: bool


class HookOptOutApplier(NamedTuple):
    """Whose opt-outs they are, and by which way in they came."""

    pool: asyncpg.Pool
    settings: Settings
    hook: Hook
    actor: Actor
    correlation_id: str

    async def apply(self, told: Sequence[HookOptOut]) -> list[OptOutReceipt | None]:
        """Return what became of each, with None where its id stood for something else before.

        They are applied in their order; after five seconds the rest is stored as one job for each
        kind, with which workers begin before all other work.
        """
        until = monotonic() + APPLY_SECONDS
        posts = await resolve_posts(self.pool, self.hook, [each.post for each in told])
        meant = [each._replace(post=post) for each, post in zip(told, posts, strict=True)]
        earlier = await self._find_earlier_jobs(meant)
        done: list[OptOutReceipt | None] = []
        for each in meant:
            if monotonic() > until:
                break
            done.append(await self._apply(self._request_of(each), earlier))
            # What was told before asks nothing of Postgres.
            await asyncio.sleep(0)
        left = meant[len(done) :]
        return [*done, *await self._defer_to_workers(left)] if left else done

    async def _find_earlier_jobs(self, told: Sequence[HookOptOut]) -> dict[str, jobs.InsertedJob]:
        # One in a message, as nearly all are, takes less than a turn.
        many = len(told) > MAX_INLINE_ADDRESSES
        keys = await run_off_loop(self.hook.account, partial(_idempotency_keys, told), is_long=many)
        async with self.pool.acquire() as connection:
            return await jobs.list_jobs_by_key(connection, self.hook.account_id, keys)

    async def _apply(
        self, request: JobRequest, earlier: dict[str, jobs.InsertedJob]
    ) -> OptOutReceipt | None:
        try:
            answer = _answer_or_request(request, earlier)
            if isinstance(answer, OptOutReceipt):
                return answer
            pool, settings, actor = self.pool, self.settings, self.actor
            if len(answer.selection.addresses or ()) > settings.chunk_size:
                stored = await submit(pool, settings, answer, actor=actor)
                return OptOutReceipt(stored.job_id, stored.created, applied=False)
            return await opt_out_immediately(
                pool, settings, answer, account_id=self.hook.account_id, actor=actor
            )
        except IdempotencyConflict:
            return None

    async def _defer_to_workers(self, told: Sequence[HookOptOut]) -> list[OptOutReceipt | None]:
        # The events that were just applied are among them.
        earlier = await self._find_earlier_jobs(told)
        # Thousands of addresses are identified, and one of them may take 0.1 ms.
        answers, parts = await run_in_turn(
            self.hook.account, lambda: self._merge_events(told, earlier)
        )
        stored = {kind: await self._submit(kind, part) for kind, part in parts.items()}
        return [
            stored[each.kind]._replace(created=each.is_first and stored[each.kind].created)
            if isinstance(each, _MergedEvent)
            else each
            for each in answers
        ]

    async def _submit(self, kind: Status, together: _MergedEvents) -> OptOutReceipt:
        """Store them as one job, which has the keys of all of them."""
        hook, keys = self.hook, together.hashes
        key = day_key("hook", hook.id, "rest", act=sorted(keys), kind=kind)
        note = "told together with other events"
        request = await run_in_turn(
            hook.account, lambda: self._request(together.addresses, kind, key=key, note=note)
        )
        stored = await submit(
            self.pool,
            self.settings,
            request,
            is_verbatim=True,
            merged_hashes=keys,
            actor=self.actor,
        )
        log.warning(
            events.OPT_OUT_DEFERRED,
            job=stored.job_id,
            account=hook.account_id,
            action=request.action,
            error="TooManyEvents",
            correlation_id=self.correlation_id,
        )
        return OptOutReceipt(stored.job_id, stored.created, applied=False)

    def _request_of(self, told: HookOptOut) -> JobRequest:
        post = told.post
        return self._request(
            post.addresses,
            post.kind,
            key=told.key,
            note=told.note,
            occurred_at=told.occurred_at,
        )

    def _request(
        self,
        addresses: Sequence[str],
        kind: Status,
        *,
        key: str,
        note: str | None,
        occurred_at: datetime | None = None,
    ) -> JobRequest:
        hook = self.hook
        return opt_out_request(
            account=hook.account,
            addresses=addresses,
            kind=kind,
            source=hook.source,
            key=key,
            requested_by=f"hook {hook.id} ({hook.source})",
            correlation_id=self.correlation_id,
            occurred_at=occurred_at,
            note=note,
        )

    def _merge_events(
        self, told: Sequence[HookOptOut], earlier: dict[str, jobs.InsertedJob]
    ) -> tuple[list[OptOutReceipt | _MergedEvent | None], dict[Status, _MergedEvents]]:
        """Separate what is answered already from what must be stored, event by event."""
        answers: list[OptOutReceipt | _MergedEvent | None] = []
        together: dict[Status, _MergedEvents] = {}
        hashes: dict[str, str] = {}
        for each in told:
            try:
                request = _answer_or_request(self._request_of(each), earlier)
            except IdempotencyConflict:
                answers.append(None)
                continue
            if isinstance(request, OptOutReceipt):
                answers.append(request)
                continue
            key, digest = request.idempotency_key or "", validate_request(request).request_hash
            is_first = key not in hashes
            if hashes.setdefault(key, digest) != digest:
                answers.append(None)
                continue
            answers.append(_MergedEvent(each.post.kind, is_first))
            if is_first:
                part = together.setdefault(each.post.kind, _MergedEvents([], {}))
                part.addresses.extend(request.selection.addresses or ())
                part.hashes[key] = digest
        return answers, together


def _idempotency_keys(told: Sequence[HookOptOut]) -> list[str]:
    return [each.key for each in told]


def _answer_or_request(
    request: JobRequest, earlier: dict[str, jobs.InsertedJob]
) -> OptOutReceipt | JobRequest:
    """Return the earlier job's answer, or the request if there is no such job.

    Raises IdempotencyConflict if the job of this key was a different request.
    """
    stored = earlier.get(request.idempotency_key or "")
    if stored is None:
        return request
    require_same_request(stored, request, validate_request(request))
    return repeat_request(request, stored) if stored.is_incomplete else earlier_receipt(stored)
