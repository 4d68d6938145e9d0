-- Who may ask the API. A key is 256 random bits; only their SHA-256 is kept, so this table opens nothing by itself. The
-- prefix is the part of it that people see. A `link` logs a browser in, once, and becomes a `session`, whose bits are in
-- the browser's cookie; neither is a key, and a link is not a session.
create table api_key (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('key', 'link', 'session')),
    name text not null check (name ~ '^[^[:cntrl:]]{1,64}$'),
    prefix text not null unique,
    sha256 bytea not null unique check (length(sha256) = 32),
    scopes text[] not null check (scopes <@ '{read,write,admin}' and 'read' = any (scopes)),
    created_at timestamptz not null default now(),
    expires_at timestamptz check (kind = 'key' or expires_at is not null),
    revoked_at timestamptz
);
comment on table api_key is 'Keys, login links and sessions of the API, by SHA-256: whose, for what, until when.';

-- Make a key, a link or a session that lasts so long (null: until it is revoked); what ended a day ago goes.
create function make_key(
    the_kind text, the_name text, the_prefix text, hash bytea, the_scopes text[], lasts interval
) returns api_key
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    result api_key;
begin
    delete from api_key where kind <> 'key' and least(expires_at, revoked_at) < now() - interval '1 day';
    insert into api_key (kind, name, prefix, sha256, scopes, expires_at)
    values (the_kind, the_name, the_prefix, hash, the_scopes, now() + lasts)
    returning * into result;
    return result;
end
$$;

-- Use a link up: a session with its name and scopes, or no row where the link was used, is over, or never was one. Two
-- at once wait for each other at the link's row, and one of them gets it.
create function redeem_link(link bytea, session_prefix text, session bytea, lasts interval) returns setof api_key
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    used api_key;
begin
    update api_key set revoked_at = now()
    where sha256 = link and kind = 'link' and revoked_at is null and expires_at > now()
    returning * into used;
    if found then
        return next make_key('session', used.name, session_prefix, session, used.scopes, lasts);
    end if;
end
$$;
