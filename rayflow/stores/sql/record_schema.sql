-- The coordinator's record: what it knows, by name. It need not outlive the machine, only the process.
pragma journal_mode = wal;
pragma synchronous = normal;
pragma busy_timeout = 5000;

create table if not exists facts (
    name  text not null primary key,
    fact  blob not null
) without rowid;
