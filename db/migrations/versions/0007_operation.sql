-- What operators need: who did what, what a worker had in hand, and keys that end.

-- Lanes.

-- Who did what.

-- Keys and secrets.
alter table api_keys
    add column expires_at timestamptz,
    add column last_used_at timestamptz;

-- Roles.
