-- From schema 3 of a session shard, whose heads were written again with every turn.
alter table heads rename column updated_us to touched_us;
alter table heads drop column last_seq;
