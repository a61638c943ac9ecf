-- The search by words, bounded by what it reads and not by what a tenant has.
--
-- A key of the index is a hash of a word with its tenant and member, so that what stands under it are one member's
-- memories with this word: as few as they are, however many others say it.

CREATE FUNCTION memory_words(tenant text, member text, lexemes tsvector) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
COST 100000 -- never as a filter: it is what an index holds
AS $$
    SELECT array_to_tsvector(coalesce(array_agg(
        to_hex(hashtextextended(word, hashtextextended(tenant || chr(31) || member, 0)))
    ), '{}'))
    FROM unnest(tsvector_to_array(lexemes)) AS word
$$;

DROP INDEX memories_by_word;
-- Entries that are not merged yet are read one by one by every search: a quarter of a megabyte of them at most.
CREATE INDEX memories_by_word ON memories USING gin (memory_words(tenant, member, lexemes))
    WITH (gin_pending_list_limit = 256);

-- The best of one member's memories by the words of a question, as its tenant's (`headstart.tenant`) and nobody else's.
-- Row-level security lets no index answer a search by words before it has looked at a row, since what an operator says
-- of a row might leak it. So this runs as the owner of the table and is itself held to the tenant of the transaction.
--
-- What is ranked is bounded. The rarest words are taken first, as long as no more than word_rows of the member's memories
-- hold each and ranked_rows all of them: a memory that holds only what many hold says little. A question of none but
-- common words is answered by memories that hold two of them. Of a long question the asked_words longest words count.
--
-- The part of the table is asked by its own name and without `tenant = …`: the planner would else read every memory of
-- the tenant from the index on (tenant, member) to meet the few that the words' index has already found.
CREATE FUNCTION memories_by_words(
    owner text, question text, most bigint, skipped_conversation text, skipped_turns text[],
    word_rows integer, ranked_rows integer, asked_words integer
) RETURNS TABLE (id text, score real)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 16
AS $$
DECLARE
    mine CONSTANT text := current_setting('headstart.tenant', true);
    part CONSTANT regclass := (SELECT tableoid FROM memories WHERE tenant = mine LIMIT 1);
    seed CONSTANT bigint := hashtextextended(mine || chr(31) || owner, 0);
    words CONSTANT tsquery := replace(plainto_tsquery('english', question)::text, ' & ', ' | ')::tsquery;
    chosen text;
    common text[];
BEGIN
    IF part IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format($count$
        SELECT string_agg(key, ' | ') FILTER (WHERE held <= $2 AND together <= $3),
               array_agg(key) FILTER (WHERE held > $2)
        FROM (
            SELECT key, held, sum(held) OVER (ORDER BY held, key) AS together
            FROM unnest($1) AS asked (key), LATERAL (
                SELECT count(*) AS held FROM (
                    SELECT FROM %s WHERE memory_words(tenant, member, lexemes) @@ key::tsquery LIMIT $2 + 1
                ) AS few
            ) AS counted
            WHERE held > 0
        ) AS by_rarity
    $count$, part) INTO chosen, common USING ARRAY(
        SELECT to_hex(hashtextextended(word, seed)) FROM unnest(tsvector_to_array(to_tsvector('english', question))) AS word
        ORDER BY length(word) DESC, word LIMIT asked_words
    ), word_rows, ranked_rows;
    IF chosen IS NULL THEN
        SELECT coalesce(string_agg(one || ' & ' || other, ' | '), common[1]) INTO chosen
        FROM unnest(common) AS one, unnest(common) AS other WHERE one < other;
    END IF;
    RETURN QUERY EXECUTE format($rank$
        SELECT id, ts_rank_cd(lexemes, $1, 1) AS score
        FROM (
            SELECT id, lexemes FROM %s
            WHERE memory_words(tenant, member, lexemes) @@ $2 AND (tenant, member) IS NOT DISTINCT FROM ($3, $4)
              AND ($5 = '' OR conversation <> $5) AND superseded_by = '' AND (turn = '' OR turn <> ALL ($6))
            LIMIT $7
        ) AS few
        ORDER BY score DESC, id LIMIT $8
    $rank$, part) USING words, chosen::tsquery, mine, owner, skipped_conversation, skipped_turns, ranked_rows, most;
END
$$;
