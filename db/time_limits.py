"""How long a transaction may last, each limit in milliseconds.

They are set for the current transaction, so they also work behind PgBouncer and apply to no other
user of the database.
"""

IDLE_MS = 10_000
"""The longest time that a transaction waits for its client, which has then stopped or lost its
connection. Tens of milliseconds pass between two statements of a chunk."""

LOCK_MS = 20_000
"""The longest wait of a chunk for a lock. The holder, such as an open console, is not the chunk's
fault: the chunk begins again, and no attempt is counted."""

TRANSACTION_MS = 120_000
"""The longest transaction of a chunk, on Postgres 17 and newer. A client that stops within a
statement leaves no idle transaction, and would otherwise keep its locks."""

STATEMENT_MS = 30_000
"""The longest statement of a chunk. It also ends a COPY whose client has stopped, which is no idle
transaction. A chunk that needs more time is retried, then split."""
