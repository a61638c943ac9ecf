-- What a memory says as a fact: one attribute of one subject. Facts of one member, subject and attribute are held to each
-- other when they are written (memory/revising.py), so that the newest word counts and the others keep their text.

ALTER TABLE memories
    ADD COLUMN subject   text NOT NULL DEFAULT '',
    ADD COLUMN attribute text NOT NULL DEFAULT '',
    ADD COLUMN value     text NOT NULL DEFAULT '',
    ADD COLUMN single    boolean NOT NULL DEFAULT false,
    ADD COLUMN negated   boolean NOT NULL DEFAULT false;
CREATE INDEX memories_by_attribute ON memories (tenant, member, subject, attribute) WHERE attribute <> '';
CREATE INDEX memories_summaries ON memories (conversation) WHERE attribute = 'summary' AND superseded_by = '';

-- Rated turns. Only good ones are found, by likeness to their question; they are curated by hand, so thousands per tenant
-- and not millions, and the search is exact.
CREATE TABLE examples (
    turn         text PRIMARY KEY REFERENCES turns ON DELETE CASCADE,
    conversation text NOT NULL,
    tenant       text NOT NULL,
    member       text NOT NULL,
    agent        text NOT NULL,
    question     text NOT NULL,
    answer       text NOT NULL,
    rating       text NOT NULL CHECK (rating IN ('good', 'bad')),
    shared       boolean NOT NULL,
    at_ms        bigint NOT NULL,
    embedding    vector({dimensions}) NOT NULL
);
CREATE INDEX examples_by_member ON examples (tenant, member) WHERE rating = 'good';
CREATE INDEX examples_shared ON examples (tenant) WHERE rating = 'good' AND shared;

-- What a member does again and again (memory/habits.py). hours: times by hour of the day, UTC.
CREATE TABLE habits (
    id          text NOT NULL,
    tenant      text NOT NULL,
    member      text NOT NULL,
    kind        text NOT NULL,
    name        text NOT NULL,
    taken       integer NOT NULL,
    declined    integer NOT NULL,
    hours       integer[] NOT NULL CHECK (cardinality(hours) = 24),
    first_at_ms bigint NOT NULL,
    last_at_ms  bigint NOT NULL,
    correction  text NOT NULL DEFAULT '',
    muted       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, member, id)
);

-- Turns that a model is still to read, written in the transaction of the turn. epoch: how often it was asked.
CREATE TABLE readings (
    turn         text NOT NULL REFERENCES turns ON DELETE CASCADE,
    step         text NOT NULL,
    conversation text NOT NULL,
    tenant       text NOT NULL,
    member       text NOT NULL,
    partition    integer NOT NULL,
    at_ms        bigint NOT NULL,
    epoch        integer NOT NULL,
    asked_at_ms  bigint NOT NULL,
    PRIMARY KEY (turn, step)
);
CREATE INDEX readings_by_partition ON readings (partition, at_ms);
