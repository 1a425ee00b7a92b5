"""Arguments for every parameter of the tested statements, for one contact or for a chunk."""

from datetime import UTC, datetime
from typing import Any

from db.result_rows import result_objects
from schemas.outcomes import Cause, Outcome
from schemas.requests import MAX_ID
from schemas.results import ResultKind
from schemas.statuses import Status
from tests.kit.large_database import (
    ACCOUNT,
    CHUNK,
    CONTACTS_OF_LARGEST,
    FIRST_ROW,
    IMPORT,
    OPT_OUT,
    ROLE_ADDRESS,
)

FIRST_PAGE = {"after_item": -MAX_ID - 1, "after_field": 0, "after_chunk": -1, "after": -1}
LATER_PAGE = {
    "after_item": CONTACTS_OF_LARGEST // 2,
    "after_field": 2,
    "after_chunk": 60,
    "after": 20_000,
}

SPECIAL = {
    "claim_next_chunk": [{}, {"share": 0.0}],
    "list_jobs": [{}, {"in_states": ["running"]}],
    "list_jobs_of_account": [{}, {"in_states": ["running"]}, {"of_action": "opt_out"}],
    "results_page": [
        {**cursor, "outcome": outcome, "reason": reason, "rejected": outcome == "rejected"}
        for cursor in (FIRST_PAGE, LATER_PAGE)
        for outcome, reason in (
            (None, None),
            ("applied", None),
            ("unchanged", "no_change"),
            ("rejected", None),
            ("rejected", "bounced"),
        )
    ],
    "results_scanned_to": [{"rejected": False}, {"rejected": True}],
    "list_contacts": [{}, {"address_id": 77}],
    "list_history": [{}, {"address_id": 77}],
    "find_contact_ids": [
        {"after": after, **sought}
        for after in (-MAX_ID - 1, CONTACTS_OF_LARGEST // 2)
        for sought in (
            {},
            {"narrowed": False, "statuses": None, "unengaged_before": None},
            {"tag_id": 7},
            {"import_job": IMPORT - 50},
            {"import_job": IMPORT - 50, "tag_id": 7},
        )
    ],
    "look_up_listed": [{}, {"item_ids": None}],
    "freeze_import": [{"fields": 2}],
    "mark_failed": [{}, {"delay_seconds": None}],
    "store_forecast": [{"state": "planned"}, {"state": "running"}],
}
"""Arguments of statements that are tested in more than one way."""

STATUSES = {"forecasting": list(Status), "contacts": ["bounce", "admin"]}

FIXED: dict[str, Any] = {
    "event": "job.paused",
    "actor_id": 7,
    "actor_kind": "key",
    "account_id": ACCOUNT,
    "action": "opt_out",
    "added_contact_ids": [1],
    "added_fields": [3],
    "added_keys": ["new2@host.example"],
    "added_item_ids": [FIRST_ROW + 2],
    "after": 20_000,
    "after_cause": "direct",
    "after_chunk": 60,
    "after_item": 7,
    "after_field": 1,
    "after_place": 1,
    "address_id": ROLE_ADDRESS,
    "applied": 1,
    "at": 1_700_000_000.0,
    "attempts": 1,
    "attempt": 1,
    "before": 2_900,
    "busy": [2, 3],
    "cause": "direct",
    "cell_reasons": ["invalid_address"],
    "chunk_no": 60,
    "chunk_size": CHUNK,
    "confirmation": {},
    "chunks": 10,
    "suspect_attempts": None,
    "chunk_seconds": 0.1,
    "job_concurrency": 8,
    "peak": 1,
    "peak_before": None,
    "plan_seconds": 0.1,
    "workers": 2,
    "workers_before": None,
    "contact_id": 7,
    "correlation_id": "",
    "counted": False,
    "drift": None,
    "decided_at": datetime(2024, 1, 1, tzinfo=UTC),
    "delay_seconds": 5.0,
    "duration_ms": 1,
    "empty": 0,
    "error": "it broke",
    "every_seconds": 5.0,
    "evidence": {},
    "min_contacts": 1,
    "min_lanes": 1,
    "first": 1,
    "forecast": {},
    "field": 1,
    "fields": [1, 2],
    "hook_id": 7,
    "token": 1,
    "idempotency_key": "key7",
    "idempotency_keys": ["key7", "key8"],
    "idle_ms": "1000",
    "import_job": None,
    "in_csv": True,
    "in_states": None,
    "is_recovery": False,
    "key_id": 7,
    "key_ids": [7, 8],
    "signing_key": "0123abcd",
    "former_days": 7,
    "renewed": True,
    "known_ids": [ROLE_ADDRESS + 1],
    "known_keys": ["shared1@host.example"],
    "known_roles": [False],
    "lane": 1,
    "lanes": 8,
    "last": 1,
    "lease_seconds": 30.0,
    "line": 20_000,
    "listed": True,
    "lock_ms": "1000",
    "max_contacts": 1_000,
    "max_scanned": 5_000,
    "match_key": "1000007.1@host.example",
    "memory": "4MB",
    "sibling_sensitive": [0] * 34,
    "limit": 100,
    "name": "account7",
    "new_status": "manual",
    "narrowed": True,
    "of_action": None,
    "oldest": 1,
    "outcome": None,
    "own_right_statuses": ["admin", "manual"],
    "params": {},
    "plan_first": False,
    "from_states": ["running", "paused"],
    "propagated": 0,
    "propagates": True,
    "received_at": datetime(2024, 1, 1, tzinfo=UTC),
    "recent_seconds": 10.0,
    "reason": None,
    "repeats": [],
    "stated": list(Status),
    "initial_statuses_by_stated": list(Status),
    "raw": False,
    "changed_by": [0] * 34,
    "role_sources": [0] * 34,
    "request_hash": "",
    "request_hashes": ["", ""],
    "requested_by": "somebody",
    "row_reasons": ["no_address"],
    "salt": bytes(16),
    "seconds": 1000.0,
    "selected": 1,
    "selection": {},
    "share": 0.5,
    "role_address_limit": 10,
    "stalled_after_seconds": 5.0,
    "sources": [0] * 34,
    "propagating": [0] * 34,
    "source": "keap",
    "state": "idle",
    "statement_ms": "1000",
    "transaction_ms": "1000",
    "status": "non_marketable",
    "tag": None,
    "tag_id": None,
    "to_status": "admin",
    "unchanged": 0,
    "unengaged": ["unengaged_marketable"],
    "unengaged_before": datetime(2024, 1, 1, tzinfo=UTC),
    "urgent_actions": ["opt_out"],
    "url": "https://shop.example/ended",
    "via": "http",
    "to_state": "running",
    "without_external_id": [],
    "worker": "worker",
}
"""Arguments that are the same for every statement and size."""


_OF_IMPORTS = {"import_chunks", "import_ends", "imports"}


def items(subject: str, size: int) -> list[int]:
    """Return the ids of a chunk's items: import rows, listed addresses or contacts."""
    if subject in _OF_IMPORTS:
        return [FIRST_ROW + 2 * n + 2 for n in range(size)]
    first = 3 * ROLE_ADDRESS + 25_001 if subject == "address_lists" else 1
    return list(range(first, first + size))


def arguments(subject: str, size: int) -> dict[str, Any]:
    """Return an argument for every parameter of the file's statements, with lists of `size`."""
    of_import = subject in _OF_IMPORTS
    addresses = 2 * size
    keys = [f"listed{n}@host.example" for n in range(1, size + 1)]
    return FIXED | {
        "addresses": keys,
        "address_ids": list(range(1, addresses + 1)),
        "propagated_from": [None] * addresses,
        "changed_from": ["confirmed"] * addresses,
        "changed_ids": list(range(1, addresses + 1)),
        "changed_to": ["admin"] * addresses,
        "contact_ids": list(range(1, size + 1)),
        "item_id": FIRST_ROW + 2 if of_import else 3 * ROLE_ADDRESS + 25_001,
        "item_ids": items(subject, size),
        "items": list(range(1, size + 1)),
        "recognized_item_ids": list(range(FIRST_ROW + 2, FIRST_ROW + 2 + 2 * size, 2)),
        "recognized_contact_ids": list(range(1, size + 1)),
        "detail": None if subject == "activity" else "it broke",
        "external_ids": [f"id{n}" for n in range(1, size + 1)],
        "from_statuses": ["confirmed"] * addresses,
        "ids": list(range(10**9, 10**9 + addresses)),
        "job_id": IMPORT if of_import else OPT_OUT,
        "companies": [None] * size,
        "given_names": ["Ann"] * size,
        "family_names": [None] * size,
        "kinds": [1] * addresses,
        "match_keys": keys,
        "reasons": {},
        "results": result_objects(
            {
                ResultKind(Outcome.APPLIED, None, None, Status.ADMIN, Cause.DIRECT): [
                    (n, 1, n, None) for n in range(1, addresses + 1)
                ]
            },
            {},
        ),
        "rejected": False if subject == "exports" else 0,
        "source_ids": [None] * addresses,
        "statuses": STATUSES.get(subject),
        "to_statuses": ["admin"] * addresses,
        "versions": [1_000] * addresses,
    }
