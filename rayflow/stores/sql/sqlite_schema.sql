-- Schema version 4 of a session shard. A session is a head and a log; a turn is one entry of an append-only log.
-- Logs have numbers of their own, because one may outlive its session: forks read the beginning of their parent's.
-- `head` and `message` are content and may be encrypted; `data_key` is the wrapped key, empty where they are not. It is
-- kept in both places: with the log for those who share it, and with the head for every append.
-- A turn writes its entry and nothing else: how long a log is, and when it got its last turn, is what its entries say.
-- `touched_us`: when the head itself was last changed.
create table if not exists logs (
    number      integer primary key,
    tenant      text    not null,
    session_id  text    not null,
    data_key    blob    not null
);

create table if not exists heads (
    tenant      text    not null,
    session_id  text    not null,
    number      integer not null,
    user_id     text    not null,
    created_us  integer not null,
    touched_us  integer not null,
    version     integer not null,
    closed_us   integer not null,
    parent_id   text    not null,
    branch_id   text    not null,
    forked_at   integer not null,
    data_key    blob    not null,
    head        blob    not null,
    primary key (tenant, session_id)
) without rowid;

create index if not exists heads_by_age on heads (tenant, created_us, session_id);
create index if not exists heads_by_user on heads (tenant, user_id, created_us, session_id);

-- `place` is number * 2^31 + seq: one integer is the quickest key there is, keeps the turns of a log together, and
-- leaves a turn of up to 4 kB on its page.
create table if not exists entries (
    place       integer primary key,
    run_id      text    not null,
    role        text    not null,
    agent       text    not null,
    partial     integer not null,
    created_us  integer not null,
    usage       text,
    digest      text    not null,
    message     blob    not null
);

-- A repetition with a digest is recognised however old it is.
create index if not exists entries_by_digest on entries (run_id, place) where digest <> '';

-- The log `number` begins with the entries of `source` up to `upto`, after those of the share before.
create table if not exists shares (
    number  integer not null,
    upto    integer not null,
    source  integer not null,
    primary key (number, upto)
) without rowid;

create index if not exists shares_by_source on shares (source, upto);

-- Who has records, and the wrapped data key of their values; empty where they are not encrypted.
create table if not exists record_owners (
    number      integer primary key,
    tenant      text    not null,
    owner_name  text    not null,
    data_key    blob    not null,
    unique (tenant, owner_name)
);

create table if not exists records (
    owner       integer not null,
    kind        text    not null,
    name        text    not null,
    version     integer not null,
    created_us  integer not null,
    updated_us  integer not null,
    expires_us  integer not null,
    value       blob    not null,
    unique (owner, kind, name)
);

create index if not exists records_by_expiry on records (expires_us) where expires_us > 0;

-- How often the file was opened, which is the number of its present owner. One row.
create table if not exists ownership (
    id     integer primary key check (id = 1),
    epoch  integer not null
);

insert or ignore into ownership (id, epoch) values (1, 0);
