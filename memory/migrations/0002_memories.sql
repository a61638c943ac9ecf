-- Memories of four layers, each with its source, its validity and its confidence.
-- Split by tenant: a question touches one part, whose HNSW graph and GIN index are an eighth of the whole.

CREATE TABLE memories (
    tenant        text NOT NULL,
    id            text NOT NULL,
    member        text NOT NULL,
    layer         text NOT NULL CHECK (layer IN ('conversation', 'episode', 'fact', 'procedure')),
    text          text NOT NULL,
    speaker       text NOT NULL,
    conversation  text NOT NULL,
    turn          text NOT NULL,
    source_offset bigint NOT NULL,
    at_ms         bigint NOT NULL,
    valid_from_ms bigint NOT NULL,
    valid_to_ms   bigint,
    superseded_by text NOT NULL,
    confidence    real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    embedding     vector({dimensions}) NOT NULL,
    lexemes       tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    PRIMARY KEY (tenant, id)
) PARTITION BY HASH (tenant);

CREATE TABLE memories_0 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE memories_1 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE memories_2 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE memories_3 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE memories_4 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE memories_5 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE memories_6 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE memories_7 PARTITION OF memories FOR VALUES WITH (MODULUS 8, REMAINDER 7);

CREATE INDEX memories_by_member ON memories (tenant, member, at_ms);
CREATE INDEX memories_by_conversation ON memories (conversation);
CREATE INDEX memories_by_word ON memories USING gin (lexemes);
CREATE INDEX memories_by_likeness ON memories USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);
