-- What `stores.servers.postgres` asks. Each handles a whole batch: arrays are the columns of its rows. $1 is the shard.

-- name: durable
-- An answer means durable, whatever the server's default.
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';

-- name: other_number
-- With how many shards the sessions of a namespace were written, where not with so many.
select shards from rayflow.shards s
where namespace = $1 and shards <> $2
  and (exists (select from rayflow.sessions where shard = s.id)
       or exists (select from rayflow.record_owners where shard = s.id))
limit 1;

-- name: take_over
-- The next epoch of a shard.
insert into rayflow.shards (namespace, shard, shards) values ($1, $2, $3)
on conflict (namespace, shard, shards) do update set epoch = shards.epoch + 1
returning id, epoch;

-- name: next_batch
-- Count a shard's batches on, for its owner and after the last one.
update rayflow.shards set batch = $4 where id = $1 and epoch = $2 and batch = $3 returning batch;

-- name: heads
-- Heads of sessions.
select tenant, session_id, head
from unnest($2::text[], $3::text[]) as k (tenant, session_id)
join rayflow.sessions s using (tenant, session_id)
where s.shard = $1;

-- name: of_users
-- Heads of all sessions of users.
select tenant, session_id, head
from unnest($2::text[], $3::text[]) as k (tenant, user_id)
join rayflow.sessions s using (tenant, user_id)
where s.shard = $1;

-- name: idle
-- Heads of sessions that were not used, or began, long ago.
(select tenant, session_id, head from rayflow.sessions where shard = $1 and updated_us < $2
 order by updated_us limit $4)
union
(select tenant, session_id, head from rayflow.sessions where shard = $1 and created_us < $3
 order by created_us limit $4)
limit $4;

-- name: stale
-- Heads of sessions whose data keys another key wraps.
select tenant, session_id, head from rayflow.sessions where shard = $1 and wrapper <> $2 limit $3;

-- name: runs
-- What sessions have of runs.
select k.n, t.seq, t.role, t.partial, t.digest
from unnest($2::text[], $3::text[], $4::text[]) with ordinality as k (tenant, session_id, run_id, n)
join rayflow.turns t using (tenant, session_id, run_id)
where t.shard = $1 and t.run_id <> ''
order by k.n, t.seq;

-- name: ranges
-- Turns of sessions from one number to another.
select (
    select array_agg(t.turn order by t.seq) from rayflow.turns t
    where t.shard = $1 and t.tenant = k.tenant and t.session_id = k.session_id
      and t.seq > k.after and t.seq <= k.upto
)
from unnest($2::text[], $3::text[], $4::int[], $5::int[]) with ordinality as k (tenant, session_id, after, upto, n)
order by k.n;

-- name: drop
-- Delete sessions with all they have.
delete from rayflow.sessions s using unnest($2::text[], $3::text[]) as k (tenant, session_id)
where s.shard = $1 and s.tenant = k.tenant and s.session_id = k.session_id;

-- name: cut
-- Delete the turns of sessions beyond a number.
delete from rayflow.turns t using unnest($2::text[], $3::text[], $4::int[]) as k (tenant, session_id, keep)
where t.shard = $1 and t.tenant = k.tenant and t.session_id = k.session_id and t.seq > k.keep;

-- name: write_heads
-- Make sessions, or change them.
insert into rayflow.sessions
    (shard, tenant, session_id, user_id, created_us, updated_us, turns, wrapper, head)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::int[], $8::bytea[],
    $9::bytea[])
on conflict (shard, tenant, session_id) do update
set updated_us = excluded.updated_us, turns = excluded.turns, wrapper = excluded.wrapper, head = excluded.head;

-- name: write_turns
-- Add turns.
insert into rayflow.turns (shard, tenant, session_id, seq, run_id, role, partial, digest, turn)
select $1, * from unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::boolean[], $8::text[],
    $9::bytea[]);

-- name: head
-- The head of a session, and who owns the shard.
select o.epoch, s.head from rayflow.shards o
left join rayflow.sessions s on s.shard = o.id and s.tenant = $2 and s.session_id = $3
where o.id = $1;

-- name: history
-- The head of a session with a page of its turns, and who owns the shard.
select o.epoch, s.head, (
    select array_agg(page.turn order by page.seq) from (
        select t.seq, t.turn from rayflow.turns t
        where t.shard = s.shard and t.tenant = s.tenant and t.session_id = s.session_id
          and t.seq > greatest($4::int, case when $6::boolean then s.turns - $5::int else 0 end)
        order by t.seq limit $5::int
    ) page
)
from rayflow.shards o
left join rayflow.sessions s on s.shard = o.id and s.tenant = $2 and s.session_id = $3
where o.id = $1;

-- name: list
-- A page of the sessions of a tenant, newest first.
select session_id, head from rayflow.sessions
where shard = $1 and tenant = $2 and (created_us, session_id) < ($3::bigint, $4::text)
order by created_us desc, session_id desc limit $5;

-- name: list_of_user
-- The same of one user.
select session_id, head from rayflow.sessions
where shard = $1 and tenant = $2 and user_id = $6 and (created_us, session_id) < ($3::bigint, $4::text)
order by created_us desc, session_id desc limit $5;

-- name: tenants
-- Who has sessions in a shard.
select distinct tenant from rayflow.sessions where shard = $1 order by tenant;
