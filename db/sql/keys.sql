-- API keys. Only their digests are kept.

-- name: insert_key$
-- Keep a key of an account; gives its id.
insert into api_keys (account_id, name, digest, scopes)
values (:account_id, :name, :digest, :scopes)
returning id;

-- name: key_by_id^
-- A key that counts, and whose it is.
select k.account_id, a.name as account, k.name, k.digest, k.scopes
from api_keys k join accounts a on a.id = k.account_id
where k.id = :key_id and k.revoked_at is null;

-- name: keys
-- The keys of one account, or of all, newest first, those that were revoked among them.
select k.id, a.name as account, k.name, k.scopes, k.created_at, k.revoked_at
from api_keys k join accounts a on a.id = k.account_id
where :account_id::bigint is null or k.account_id = :account_id
order by k.id desc;

-- name: revoke_key^
-- Let a key count no more; nothing where there is none. The first moment of it stays: `revoked_now` tells
-- whether this is it.
with before as (
    select id, revoked_at from api_keys where id = :key_id for update
)
update api_keys k set revoked_at = coalesce(k.revoked_at, clock_timestamp())
from before b
where k.id = b.id
returning k.account_id, b.revoked_at is null as revoked_now;
