-- find: whose a key or a session is, what it may and until when (epoch seconds); none for a link, or what is over
select id, name, scopes, extract(epoch from expires_at)::float8
from api_key
where sha256 = %(hash)s and kind <> 'link' and revoked_at is null and (expires_at is null or expires_at > now());

-- make: a new key, link or session
select id from make_key(%(kind)s, %(name)s, %(prefix)s, %(hash)s, %(scopes)s, %(lasts)s);

-- redeem: a session for a link, once
select id from redeem_link(%(link)s, %(prefix)s, %(hash)s, %(lasts)s);

-- list: every key, link and session, the newest first; those that are over only where they are asked for
select
    prefix, kind, name, scopes, created_at, expires_at, revoked_at,
    case
        when revoked_at is not null then case kind when 'link' then 'used' else 'revoked' end
        when expires_at <= now() then 'expired'
        else 'live'
    end as state
from api_key
where %(all)s or (revoked_at is null and (expires_at is null or expires_at > now()))
order by created_at desc, id desc;

-- revoke: end whatever has this prefix; no row where there is nothing of that name, and the time it ended before, if so
update api_key as now_ended set revoked_at = coalesce(before.revoked_at, now())
from (select id, revoked_at from api_key where prefix = %(prefix)s for update) as before
where now_ended.id = before.id
returning before.revoked_at;
