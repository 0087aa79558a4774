CREATE SCHEMA IF NOT EXISTS infra_messaging;
CREATE TABLE IF NOT EXISTS infra_messaging.queue (
    name text PRIMARY KEY,
    is_paused boolean NOT NULL DEFAULT false
);
CREATE TABLE IF NOT EXISTS infra_messaging.message (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    priority smallint NOT NULL,
    key text,
    published bigint NOT NULL,
    due bigint NOT NULL,
    expires bigint,
    lease bigint,
    deliveries integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    releases integer NOT NULL DEFAULT 0,
    replays integer NOT NULL DEFAULT 0,
    history text NOT NULL DEFAULT '[]',
    envelope bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS message_order
    ON infra_messaging.message (queue, priority DESC, number);
CREATE INDEX IF NOT EXISTS message_key
    ON infra_messaging.message (queue, key, number) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_expiry
    ON infra_messaging.message (queue, expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_lease
    ON infra_messaging.message (queue, due) WHERE lease IS NOT NULL;
CREATE SEQUENCE IF NOT EXISTS infra_messaging.lease;
CREATE TABLE IF NOT EXISTS infra_messaging.known (
    queue text NOT NULL,
    id text NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (queue, id)
);
CREATE TABLE IF NOT EXISTS infra_messaging.dead (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    id text NOT NULL,
    cause text NOT NULL,
    died bigint NOT NULL,
    letter bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS dead_order ON infra_messaging.dead (queue, number);
CREATE INDEX IF NOT EXISTS dead_id ON infra_messaging.dead (queue, id);
