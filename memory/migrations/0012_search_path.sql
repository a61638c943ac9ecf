-- What runs as the owner finds its tables where the owner made them, and never in a temporary schema of its caller.

DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION memories_by_words(text, text, bigint, text, text[], integer, integer, integer) '
        'SET search_path = %I, pg_temp', current_schema()
    );
END
$$;
