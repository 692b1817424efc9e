-- Schema version 1 of the sessions of all systems that share a PostgreSQL database.
-- `head` and `turn` are rows as `stores.servers.rows` packs them; what stands beside them is there to find them by.
create schema if not exists rayflow;

create table if not exists rayflow.schema_version (
    version  integer not null
);

-- One row for each shard of a system. `epoch`: how often it was opened, which is the number of its present owner.
-- `batch`: the number of the last batch that the owner has committed.
create table if not exists rayflow.shards (
    id         integer generated always as identity primary key,
    namespace  text    not null,
    shard      integer not null,
    shards     integer not null,
    epoch      bigint  not null default 1,
    batch      bigint  not null default 0,
    unique (namespace, shard, shards)
);

create table if not exists rayflow.sessions (
    shard       integer not null references rayflow.shards (id) on delete cascade,
    tenant      text    collate "C" not null,
    session_id  text    collate "C" not null,
    user_id     text    collate "C" not null,
    created_us  bigint  not null,
    updated_us  bigint  not null,
    turns       integer not null,
    wrapper     bytea   not null,
    head        bytea   not null,
    primary key (shard, tenant, session_id)
);

create index if not exists sessions_by_age on rayflow.sessions (shard, tenant, created_us, session_id);
create index if not exists sessions_by_user on rayflow.sessions (shard, tenant, user_id, created_us, session_id);
create index if not exists sessions_by_use on rayflow.sessions (shard, updated_us);
create index if not exists sessions_by_birth on rayflow.sessions (shard, created_us);

create table if not exists rayflow.turns (
    shard       integer not null,
    tenant      text    collate "C" not null,
    session_id  text    collate "C" not null,
    seq         integer not null,
    run_id      text    collate "C" not null,
    role        text    not null,
    partial     boolean not null,
    digest      text    not null,
    turn        bytea   not null,
    primary key (shard, tenant, session_id, seq),
    foreign key (shard, tenant, session_id) references rayflow.sessions on delete cascade
);

create index if not exists turns_by_run on rayflow.turns (shard, tenant, session_id, run_id) where run_id <> '';
