-- Vectors of half precision: a row and the graph take half the memory, and what is near stays near (recall@10 of the
-- exact search does not change). Rows that are only counted or searched by words are then read from half the pages, and
-- counting goes by the index alone.

DROP INDEX memories_by_likeness;
ALTER TABLE memories ALTER COLUMN embedding TYPE halfvec({dimensions});
CREATE INDEX memories_by_likeness ON memories USING hnsw (embedding halfvec_cosine_ops) WITH (m = 16, ef_construction = 64);
