-- What `stores.servers.postgres_records` asks. As in `postgres_queries.sql`.

-- name: owners
-- Those of these owners who have records.
select tenant, owner, data_key, records
from unnest($2::text[], $3::text[]) as k (tenant, owner)
join rayflow.record_owners o using (tenant, owner)
where o.shard = $1;

-- name: standings
-- What of records decides about writes.
select tenant, owner, kind, name, version, created_us, expires_us
from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as k (tenant, owner, kind, name)
join rayflow.records r using (tenant, owner, kind, name)
where r.shard = $1;

-- name: standings_of_kinds
-- The same of all records of kinds.
select tenant, owner, kind, name, version, created_us, expires_us
from unnest($2::text[], $3::text[], $4::text[]) as k (tenant, owner, kind)
join rayflow.records r using (tenant, owner, kind)
where r.shard = $1;

-- name: expired
-- The same of records that have expired.
select tenant, owner, kind, name, version, created_us, expires_us
from rayflow.records where shard = $1 and expires_us > 0 and expires_us <= $2 order by expires_us limit $3;

-- name: stale
-- Owners whose data keys another key wraps.
select tenant, owner, data_key, records from rayflow.record_owners where shard = $1 and wrapper <> $2 limit $3;

-- name: all_of
-- All records of an owner.
select kind, name, version, created_us, updated_us, expires_us, value
from rayflow.records where shard = $1 and tenant = $2 and owner = $3;

-- name: drop_owners
-- Delete owners with all they have.
delete from rayflow.record_owners o using unnest($2::text[], $3::text[]) as k (tenant, owner)
where o.shard = $1 and o.tenant = k.tenant and o.owner = k.owner;

-- name: write_owners
-- Make owners, or change them.
insert into rayflow.record_owners (shard, tenant, owner, wrapper, data_key, records)
select $1, * from unnest($2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::int[])
on conflict (shard, tenant, owner) do update
set wrapper = excluded.wrapper, data_key = excluded.data_key, records = excluded.records;

-- name: delete
-- Delete records.
delete from rayflow.records r
using unnest($2::text[], $3::text[], $4::text[], $5::text[]) as k (tenant, owner, kind, name)
where r.shard = $1 and r.tenant = k.tenant and r.owner = k.owner and r.kind = k.kind and r.name = k.name;

-- name: write
-- Make records, or change them.
insert into rayflow.records (shard, tenant, owner, kind, name, version, created_us, updated_us, expires_us, value)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bytea[])
on conflict (shard, tenant, owner, kind, name) do update
set version = excluded.version, created_us = excluded.created_us, updated_us = excluded.updated_us,
    expires_us = excluded.expires_us, value = excluded.value;

-- name: page
-- A page of the records of an owner and a kind, up to the one that makes the reply large enough ($9), and how many
-- there would have been.
select count, data_key, kind, name, version, created_us, updated_us, expires_us, value
from (
    select *, count(*) over (), sum(octet_length(value)) over (order by name) - octet_length(value) as size
    from (
        select * from rayflow.records
        where shard = $1 and tenant = $2 and owner = $3 and kind = $4 and name > $5
          and (expires_us = 0 or expires_us > $6) and ($7::text[] is null or name = any ($7::text[]))
        order by name limit $8
    ) r join rayflow.record_owners using (shard, tenant, owner)
) page
where size < $9 order by name;

-- name: list
-- A page of all records of a shard, cut in the same way.
select count, tenant, owner, data_key, kind, name, version, created_us, updated_us, expires_us, value
from (
    select *, count(*) over (),
        sum(octet_length(value)) over (order by tenant, owner, kind, name) - octet_length(value) as size
    from (
        select * from rayflow.records
        where shard = $1 and ($2::text is null or tenant = $2::text) and ($3::text = '' or owner = $3::text)
          and (tenant, owner, kind, name) > ($4::text, $5::text, $6::text, $7::text)
        order by tenant, owner, kind, name limit $8
    ) r join rayflow.record_owners using (shard, tenant, owner)
) page
where size < $9 order by tenant, owner, kind, name;
