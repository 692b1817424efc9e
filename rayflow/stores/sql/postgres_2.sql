-- Schema version 2: records, which are small named values of owners.

-- Who has records and how many, with the wrapped data key of their values; empty where they are not encrypted.
-- `wrapper`: the beginning of the key, which tells what wrapped it.
create table if not exists rayflow.record_owners (
    shard     integer not null references rayflow.shards (id) on delete cascade,
    tenant    text    collate "C" not null,
    owner     text    collate "C" not null,
    wrapper   bytea   not null,
    data_key  bytea   not null,
    records   integer not null,
    primary key (shard, tenant, owner)
);

create table if not exists rayflow.records (
    shard       integer not null,
    tenant      text    collate "C" not null,
    owner       text    collate "C" not null,
    kind        text    collate "C" not null,
    name        text    collate "C" not null,
    version     bigint  not null,
    created_us  bigint  not null,
    updated_us  bigint  not null,
    expires_us  bigint  not null,
    value       bytea   not null,
    primary key (shard, tenant, owner, kind, name),
    foreign key (shard, tenant, owner) references rayflow.record_owners on delete cascade
);

create index if not exists records_by_expiry on rayflow.records (shard, expires_us) where expires_us > 0;
