-- Documents of all collections; the value carries version, codec, terms, body and a checksum of ours.
CREATE TABLE documents (
    collection text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (collection, key)
);

-- Under which values documents are found; bytea is compared byte by byte.
CREATE TABLE terms (
    collection text COLLATE "C" NOT NULL,
    index_name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    key bytea NOT NULL,
    is_unique boolean NOT NULL,
    PRIMARY KEY (collection, index_name, value, key)
);
CREATE UNIQUE INDEX terms_unique ON terms (collection, index_name, value) WHERE is_unique;
CREATE INDEX terms_of_document ON terms (collection, key);

CREATE TABLE history (
    collection text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (collection, key, version)
);

-- The highest fencing token that was seen for each scope.
CREATE TABLE fences (
    scope text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL
);

CREATE SEQUENCE commits;

-- A lease is never deleted, so that its token only grows.
CREATE TABLE leases (
    scope text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    token bigint NOT NULL,
    expires timestamptz NOT NULL
);
