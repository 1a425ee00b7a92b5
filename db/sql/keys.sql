-- API keys. Only their digests are stored.

-- name: insert_key$
-- Store a key of an account; returns its id.
insert into api_keys (account_id, name, digest, scopes, expires_at)
values (:account_id, :name, :digest, :scopes, :expires_at)
returning id;

-- name: get_key^
-- A valid key by its id alone, with its account and the seconds until it expires; null if it does not.
select k.account_id, a.name as account, k.name, k.digest, k.scopes,
       extract(epoch from k.expires_at - clock_timestamp())::float8 as seconds_left
from api_keys k join accounts a on a.id = k.account_id
where k.id = :key_id and k.revoked_at is null
  and (k.expires_at is null or k.expires_at > clock_timestamp());

-- name: is_active$
-- Whether a key is valid.
select exists (
    select from api_keys
    where account_id = :account_id and id = :key_id and revoked_at is null
      and (expires_at is null or expires_at > clock_timestamp())
);

-- name: list_active_digests
-- The digests of all valid keys, with their ids.
select id, digest from api_keys
where revoked_at is null and (expires_at is null or expires_at > clock_timestamp());

-- name: record_use!
-- Record that keys of an account were used now. A key that another transaction has locked is left for next time.
update api_keys set last_used_at = clock_timestamp()
where account_id = :account_id and id in (
    select id from api_keys where account_id = :account_id and id = any (:key_ids::bigint[])
    for no key update skip locked
);

-- name: list_keys
-- The keys of one account, or of all, newest first, with those that were revoked.
select k.id, a.name as account, k.name, k.scopes, k.created_at, k.expires_at, k.last_used_at,
       k.revoked_at
from api_keys k join accounts a on a.id = k.account_id
where :account_id::bigint is null or k.account_id = :account_id
order by k.id desc;

-- name: account_of_key$
-- The account of a key, by the key's id alone.
select account_id from api_keys where id = :key_id;

-- name: revoke_key$
-- Revoke a key. Returns whether it was not revoked before; no row if it does not exist. `revoked_at` stays the time
-- of the first call.
with before as (
    select id, revoked_at from api_keys where account_id = :account_id and id = :key_id for update
)
update api_keys k set revoked_at = coalesce(k.revoked_at, clock_timestamp())
from before b
where k.account_id = :account_id and k.id = b.id
returning b.revoked_at is null;
