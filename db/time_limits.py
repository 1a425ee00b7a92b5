"""How long Postgres lets a transaction of Sluice last, each limit in milliseconds.

They are set for the current transaction: so they work behind a pooler, and no other user of the
database gets them.
"""

IDLE_MS = 10_000
"""A transaction whose client says nothing for so long is rolled back: the client is stopped or cut
off, and what it has locked is waited for by others. Between two statements of a chunk pass tens of
milliseconds."""

LOCK_MS = 20_000
"""The longest wait of a chunk for a lock. Whoever holds it, an open console for instance, is not
the chunk's fault: it is begun again, and no attempt is counted."""

TRANSACTION_MS = 120_000
"""The longest transaction of a chunk, where Postgres has such a limit (17 and newer). A client that
is stopped between the parts of a statement leaves no idle transaction, and would keep its locks."""

STATEMENT_MS = 30_000
"""The longest statement of a chunk; also ends a COPY whose client was stopped in the middle, which
counts as no idle transaction. A chunk that needs more is tried again, and then in halves."""
