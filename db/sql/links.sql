-- One-click links, which name an account and an address by their ids.

-- name: get_linked_address^
-- The address that a link is about, and the account's name.
select n.name as account, a.address
from email_addresses a join accounts n on n.id = a.account_id
where a.account_id = :account_id and a.id = :address_id;
