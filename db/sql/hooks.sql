-- Hooks, where senders report opt-outs. Their secrets are derived, never stored.

-- name: insert_hook$
-- Store a hook of an account; returns its id.
insert into hooks (account_id, source, salt, key_id)
values (:account_id, :source, :salt, :signing_key)
returning id;

-- name: get_hook^
-- A hook by its id alone, with its account; also one that was revoked. A former secret only while it is valid.
select h.id, h.account_id, a.name as account, h.source, h.salt, h.revoked_at is not null as revoked,
       h.key_id, case when h.former_until > clock_timestamp() then h.former_salt end as former_salt,
       h.former_key_id
from hooks h join accounts a on a.id = h.account_id
where h.id = :hook_id;

-- name: list_active_hooks
-- All hooks that were not revoked, with the columns of `get_hook`.
select h.id, h.account_id, a.name as account, h.source, h.salt, false as revoked,
       h.key_id, case when h.former_until > clock_timestamp() then h.former_salt end as former_salt,
       h.former_key_id
from hooks h join accounts a on a.id = h.account_id
where h.revoked_at is null;

-- name: renew_hook_secret$
-- Give a hook another salt and key. The former ones stay valid for :former_days days. No row if the hook does not
-- exist or was revoked.
update hooks
set former_salt = salt, former_key_id = key_id,
    former_until = clock_timestamp() + make_interval(days => :former_days::int),
    salt = :salt, key_id = :signing_key
where account_id = :account_id and id = :hook_id and revoked_at is null
returning id;

-- name: list_hooks
-- The hooks of one account, or of all, newest first, with those that were revoked.
select h.id, a.name as account, h.source, h.created_at, h.revoked_at, h.key_id,
       case when h.former_until > clock_timestamp() then h.former_until end as former_until,
       case when h.former_until > clock_timestamp() then h.former_key_id end as former_key_id
from hooks h join accounts a on a.id = h.account_id
where :account_id::bigint is null or h.account_id = :account_id
order by h.id desc;

-- name: account_of_hook$
-- The account of a hook, by the hook's id alone.
select account_id from hooks where id = :hook_id;

-- name: revoke_hook$
-- Revoke a hook. Returns whether it was valid until now; no row if it does not exist. `revoked_at` stays the time of
-- the first call.
with before as (
    select id, revoked_at from hooks where account_id = :account_id and id = :hook_id for update
)
update hooks h set revoked_at = coalesce(h.revoked_at, clock_timestamp())
from before b
where h.account_id = :account_id and h.id = b.id
returning b.revoked_at is null;
