-- From schema 1 or 2 of a session shard, whose turns named their session, after the tables of schema 3 were made.
insert into logs (tenant, session_id, data_key)
select tenant, session_id, x'' from sessions;

insert into heads (tenant, session_id, number, user_id, created_us, touched_us, version, closed_us,
                   parent_id, branch_id, forked_at, data_key, head)
select tenant, session_id, logs.number, user_id, created_us, updated_us, 1, 0, '', '', 0, x'',
       cast('{"metadata":' || metadata || '}' as blob)
from sessions join logs using (tenant, session_id);

insert into entries (place, run_id, role, agent, partial, created_us, usage, digest, message)
select (logs.number << 31) + seq, run_id, role, agent, status <> 'complete', created_us, null, '', message
from turns join logs using (tenant, session_id);

drop table turns;
drop table sessions;
