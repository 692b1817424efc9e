-- Schema version 2 of a session shard. A turn is one row of an append-only log; a session is its head.
create table if not exists sessions (
    tenant      text    not null,
    session_id  text    not null,
    user_id     text    not null,
    created_us  integer not null,
    updated_us  integer not null,
    last_seq    integer not null,
    metadata    text    not null,
    primary key (tenant, session_id)
) without rowid;

create table if not exists turns (
    tenant      text    not null,
    session_id  text    not null,
    seq         integer not null,
    run_id      text    not null,
    role        text    not null,
    agent       text    not null,
    status      text    not null,
    created_us  integer not null,
    message     blob    not null,
    primary key (tenant, session_id, seq)
) without rowid;

-- Since version 2: how often the file was opened, which is the number of its present owner. One row.
create table if not exists ownership (
    id     integer primary key check (id = 1),
    epoch  integer not null
);

insert or ignore into ownership (id, epoch) values (1, 0);
