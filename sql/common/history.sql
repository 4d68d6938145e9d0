-- What is known complete, what is missing, and the queue of what is being fetched.

alter table symbols
    add column history_source text,  -- who gives the history; null: nobody
    add column history_end timestamptz,  -- history is wanted up to here; null: up to now
    add column grace interval not null default '10 seconds',  -- how long a closed minute may be unfinished at its source
    add column stopped_at timestamptz,  -- nobody follows it any more; its data stay
    add column minutes_since timestamptz,  -- UTC midnights, learned: the source has minutes from here on,
    add column hours_since timestamptz,  -- and hours from here on
    drop constraint symbols_seq_rule_check,
    add constraint symbols_seq_rule_check check (seq_rule in ('seq', 'id', 'time', 'offset'));

-- One connection's vouching for its symbols on one partition of the live topic: its marks are numbered and count the
-- trades sent since the one before. `covered` grows while number and count agree with what has landed; `pending` are
-- the trades that have landed since the last mark; `doubted_until` is up to where trades that were lost may reach.
create table live_session (
    session text not null,
    topic text not null,
    partition integer not null,
    topic_id uuid not null,
    source text not null default '',
    symbols text[] not null default '{}',
    covered tstzmultirange not null default '{}',
    until timestamptz,
    doubted_until timestamptz,
    n bigint not null default 0,
    pending bigint not null default 0,
    seen_at timestamptz not null default now(),
    primary key (session, topic, partition)
) with (fillfactor = 50);  -- a row changes every second; room for it on its page keeps the indexes out of it
create index on live_session using gin (symbols);

-- Spans that imports prove, merged: those that touch are one row. `interval` is the finest bar they brought.
create table imported_span (
    symbol text not null,
    "interval" text not null check ("interval" in ('1m', '1h', '1d')),
    source text not null,
    span tstzrange not null check (not isempty(span))
);
create index on imported_span using gist (span);
create index on imported_span (symbol, "interval");

-- Minutes cut out of live coverage: a trade of theirs was refused, or never came.
create table uncovered (
    symbol text not null,
    minute timestamptz not null,
    primary key (symbol, minute)
);

-- The Coordinator's queue. Open tasks are those neither landed nor cancelled. `attempt` grows with each claim, and what
-- an older one still brings is dropped. A task has landed when what it brought is also repaired into the bars.
create table backfill_task (
    id bigint generated always as identity primary key,
    symbol text not null,
    source text not null,
    market text not null,
    "interval" text not null check ("interval" in ('1m', '1h', '1d')),
    span tstzrange not null check (not isempty(span)),
    reason text not null check (reason in ('gap', 'correction', 'request')),
    status text not null default 'queued'
        check (status in ('queued', 'fetching', 'publishing', 'published', 'repairing', 'landed', 'cancelled')),
    priority integer not null default 0,
    attempt integer not null default 0,
    owner text,
    lease timestamptz,
    deadline timestamptz,
    not_before timestamptz,
    rows bigint not null default 0,
    error text,
    filed_at timestamptz not null default now(),
    started_at timestamptz,
    published_at timestamptz,
    landed_at timestamptz
);
create index backfill_task_open on backfill_task (priority desc, upper(span) desc) where status not in ('landed', 'cancelled');
create index on backfill_task (symbol, landed_at);

-- Bars of days older than any minutes a source has: hours, or the day itself. While a day has some, they stand in for
-- whatever ticks it has, at every level from 1h up.
create table coarse_bars (
    symbol text not null,
    "interval" text not null check ("interval" in ('1h', '1d')),
    bucket timestamptz not null,
    open numeric not null,
    high numeric not null,
    low numeric not null,
    close numeric not null,
    volume numeric not null,
    quote_volume numeric,
    trades bigint,
    primary key (symbol, bucket),
    check (low <= least(open, close) and high >= greatest(open, close) and low > 0 and volume >= 0)
);

-- Days whose coarse bars are to make way: their minutes have all come.
create table settled_day (
    symbol text not null,
    day timestamptz not null,
    primary key (symbol, day)
);

-- What the auditor found: a closed bar that differed from its ticks, what it should have been and what it was.
create table audit_finding (
    id bigint generated always as identity primary key,
    found_at timestamptz not null default now(),
    symbol text not null,
    "interval" text not null,
    bucket timestamptz not null,
    expected jsonb,
    found jsonb,
    repaired_at timestamptz
);
create index on audit_finding (found_at);

-- How much the auditor has looked at since the database was made: one row.
create table audit (
    one boolean primary key default true check (one),
    buckets bigint not null default 0,
    findings bigint not null default 0,
    at timestamptz
);
insert into audit default values;

-- States of the roles' state machines, as each process last told.
create table actor (
    role text not null,
    instance text not null,
    machine text not null,
    subject text not null,
    state text not null,
    error text,
    at timestamptz not null default now(),
    primary key (instance, machine, subject)
);

comment on table live_session is 'What live connections vouch for: spans in which every trade of their symbols has landed.';
comment on table imported_span is 'What imports prove, by the interval of their bars.';
comment on table uncovered is 'Minutes that live coverage lost: a trade was refused or never came.';
comment on table backfill_task is 'History that is asked for, under way, or has landed.';
comment on table coarse_bars is 'Hours and days older than any minutes their source has.';
comment on table settled_day is 'Days whose coarse bars are about to make way for minutes.';
comment on table audit_finding is 'Closed bars that differed from their ticks.';
comment on table audit is 'How much the auditor has looked at.';
comment on table actor is 'States of the roles'' state machines.';
