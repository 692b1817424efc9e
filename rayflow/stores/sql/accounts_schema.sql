-- Schema version 1 of the books: what every account has used in its period, and what is reserved for runs under way.
-- Costs are billionths of the currency of the models' prices.
create table if not exists balances (
    name      text    not null primary key,
    start_us  integer not null,
    requests  integer not null,
    tokens    integer not null,
    cost      integer not null
) without rowid;

create table if not exists reservations (
    run_id   text    not null primary key,
    tenant   text    not null,
    user_id  text    not null,
    tokens   integer not null,
    cost     integer not null,
    made_us  integer not null
) without rowid;

-- How often the file was opened, which is the number of its present owner. One row.
create table if not exists ownership (
    id     integer primary key check (id = 1),
    epoch  integer not null
);

insert or ignore into ownership (id, epoch) values (1, 0);
