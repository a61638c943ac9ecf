-- What was said just before a memory belongs to how it is found: "Since when?" "For three years." A word of the memory
-- itself weighs ten times one of its context (weights A and D of ts_rank).

ALTER TABLE memories ADD COLUMN context text NOT NULL DEFAULT '';
ALTER TABLE memories DROP COLUMN lexemes;
ALTER TABLE memories ADD COLUMN lexemes tsvector NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('english', text), 'A') || setweight(to_tsvector('english', context), 'D')
) STORED;
CREATE INDEX memories_by_word ON memories USING gin (lexemes);
