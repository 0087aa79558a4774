create table {schema}.meta (
    is_only boolean primary key default true check (is_only),
    -- Added to transaction ids, so that a database restored into a younger cluster goes on counting.
    xid_offset bigint not null default 0,
    -- The highest position that was ever removed: the head does not go back with it.
    removed_to bigint not null default 0
);
insert into {schema}.meta default values;

create table {schema}.streams (
    id bigint generated always as identity primary key,
    name text collate "C" not null unique,
    first bigint not null,
    last bigint not null,
    incarnation uuid not null,
    is_tombstoned boolean not null default false
) with (fillfactor = 70);

create table {schema}.events (
    position bigint primary key,
    stream bigint not null,
    version bigint not null,
    id uuid not null,
    type text collate "C" not null,
    codec smallint not null,
    schema bigint not null,
    body bytea not null,
    causation uuid,
    metadata bytea,
    recorded bigint not null,
    correlation uuid,
    trace text,
    headers bytea,
    unique (stream, version),
    unique (stream, id)
);
create index events_by_type on {schema}.events (type, position);
create index events_by_correlation on {schema}.events (correlation, position)
    where correlation is not null;

create table {schema}.fences (
    scope text collate "C" primary key,
    token bigint not null
);

-- Below this position every transaction has ended: what is not visible there never will be.
create function {schema}.gate() returns bigint language sql stable as $$
    select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_offset) << 14
    from {schema}.meta
$$;

create function {schema}.stable_head() returns bigint language sql stable as $$
    select greatest(
        coalesce((select position from {schema}.events
            where position < {schema}.gate() order by position desc limit 1), 0),
        (select case when removed_to < {schema}.gate() then removed_to else 0 end
            from {schema}.meta))
$$;

-- Locks names until the end of the transaction, always in the same order. It must come before the
-- transaction has an id: so ids, and with them positions, grow in the order of a stream's versions.
create function {schema}.lock_names(names text[]) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(key)
        from (select distinct hashtextextended('{schema}' || name, 0) as key
            from unnest(names) as name where name is not null order by key) as keys;
end
$$;

create function {schema}.admits(kind smallint, expected bigint, actual bigint) returns boolean
language sql immutable as $$
    select case kind when 0 then true when 1 then actual = 0 when 2 then 0 < actual
        else actual = expected end
$$;

-- Judges and writes one append. The outcome is the first that applies: fenced, reused, duplicate,
-- denied, conflict, written; `place` is the stream's place in the append, counted from 1.
create function {schema}.append(
    names text[], kinds smallint[], expecteds bigint[],
    parts integer[], ids uuid[], types text[], codecs smallint[], schemas bigint[], bodies bytea[],
    causations uuid[], metadatas bytea[],
    the_recorded bigint, the_correlation uuid, the_trace text, the_headers bytea,
    the_scope text, the_token bigint,
    out outcome text, out place integer, out actual bigint, out head bigint, out versions bigint[]
) language plpgsql as $$
declare
    n_streams constant integer := cardinality(names);
    n_events constant integer := cardinality(ids);
    n_found integer;
    n_same integer;
    known {schema}.streams;
    stream_ids bigint[];
    lasts bigint[];
    counts bigint[];
    base bigint;
begin
    perform {schema}.lock_names(names || ('fence ' || the_scope));
    place := 0;
    if the_scope is not null then
        select token into actual from {schema}.fences where scope = the_scope;
        if the_token < actual then
            outcome := 'fenced';
            return;
        end if;
    end if;

    select count(*), coalesce(count(*) filter (where e.type = o.type and e.codec = o.codec
            and e.schema = o.schema and e.body = o.body), 0), coalesce(max(e.position), 0)
        into n_found, n_same, head
        from unnest(parts, ids, types, codecs, schemas, bodies)
            as o (part, id, type, codec, schema, body)
        join {schema}.streams s on s.name = names[o.part] and not s.is_tombstoned
        join {schema}.events e on e.stream = s.id and e.id = o.id;
    if 0 < n_found then
        actual := n_found;
        if n_found < n_events or n_same < n_found then
            outcome := 'reused';
            return;
        end if;
        outcome := 'duplicate';
        select array_agg(coalesce(
                (select e.version from unnest(parts, ids) with ordinality as o (part, id, nth)
                    join {schema}.events e on e.stream = s.id and e.id = o.id
                    where o.part = n.part order by o.nth desc limit 1),
                s.last, 0) order by n.part)
            into versions
            from unnest(names) with ordinality as n (name, part)
            left join {schema}.streams s on s.name = n.name;
        return;
    end if;

    for nth in 1..n_streams loop
        select * into known from {schema}.streams where name = names[nth];
        if known.is_tombstoned then
            outcome := 'denied';
            place := nth;
            return;
        end if;
        actual := coalesce(known.last, 0);
        if not {schema}.admits(kinds[nth], expecteds[nth], actual) then
            outcome := 'conflict';
            place := nth;
            return;
        end if;
        stream_ids[nth] := known.id;
        lasts[nth] := actual;
        counts[nth] := (select count(*) from unnest(parts) as part where part = nth);
        versions[nth] := actual + counts[nth];
    end loop;

    outcome := 'written';
    if n_events = 0 then
        head := {schema}.stable_head();
    else
        base := (pg_current_xact_id()::text::bigint + (select xid_offset from {schema}.meta)) << 14;
        head := base + n_events;
        for nth in 1..n_streams loop
            continue when counts[nth] = 0;
            if stream_ids[nth] is null then
                insert into {schema}.streams (name, first, last, incarnation)
                    values (names[nth], 1, versions[nth], ids[array_position(parts, nth)])
                    returning id into known.id;
                stream_ids[nth] := known.id;
            else
                update {schema}.streams set last = versions[nth] where id = stream_ids[nth];
            end if;
        end loop;
        insert into {schema}.events (position, stream, version, id, type, codec, schema, body,
                causation, metadata, recorded, correlation, trace, headers)
            select base + o.nth, stream_ids[o.part],
                lasts[o.part] + row_number() over (partition by o.part order by o.nth),
                o.id, o.type, o.codec, o.schema, o.body, o.causation, o.metadata,
                the_recorded, the_correlation, the_trace, the_headers
            from unnest(parts, ids, types, codecs, schemas, bodies, causations, metadatas)
                with ordinality
                as o (part, id, type, codec, schema, body, causation, metadata, nth);
    end if;
    if the_scope is not null then
        insert into {schema}.fences (scope, token) values (the_scope, the_token)
            on conflict (scope) do update set token = excluded.token;
    end if;
end
$$;

-- Removes the events of a stream below a version: absent, beyond, done.
create function {schema}.truncate_before(
    the_name text, before bigint, out outcome text, out actual bigint
) language plpgsql as $$
declare
    known {schema}.streams;
    removed bigint;
begin
    perform {schema}.lock_names(array[the_name]);
    select * into known from {schema}.streams where name = the_name and not is_tombstoned;
    actual := coalesce(known.last, 0);
    if actual = 0 then
        outcome := 'absent';
    elsif actual + 1 < before then
        outcome := 'beyond';
    else
        outcome := 'done';
        with gone as (delete from {schema}.events
            where stream = known.id and version < before returning position)
            select max(position) into removed from gone;
        update {schema}.streams set first = greatest(first, before) where id = known.id;
        update {schema}.meta set removed_to = removed where removed_to < removed;
    end if;
end
$$;

-- Ends a stream for good: absent, conflict, done.
create function {schema}.tombstone(
    the_name text, kind smallint, expected bigint, out outcome text, out actual bigint
) language plpgsql as $$
declare
    known {schema}.streams;
    removed bigint;
begin
    perform {schema}.lock_names(array[the_name]);
    select * into known from {schema}.streams where name = the_name and not is_tombstoned;
    actual := coalesce(known.last, 0);
    if actual = 0 then
        outcome := 'absent';
    elsif not {schema}.admits(kind, expected, actual) then
        outcome := 'conflict';
    else
        outcome := 'done';
        with gone as (delete from {schema}.events where stream = known.id returning position)
            select max(position) into removed from gone;
        update {schema}.streams set is_tombstoned = true where id = known.id;
        update {schema}.meta set removed_to = removed where removed_to < removed;
    end if;
end
$$;
