-- A second wall between tenants: a query that forgets to ask for its tenant finds nothing of another.
--
-- headstart_app sees the rows of one tenant, the one that `headstart.tenant` names, and none while it names nobody.
-- headstart_worker, for what is known by its own id or goes over all tenants (the projection of the log), sees all.
-- Neither owns a table or may change one. Whoever connects takes one of the two roles for the whole session.
-- Roles belong to the server, so another database on it may have made them.

DO $$
DECLARE
    wanted text;
    may_set CONSTANT text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['headstart_app', 'headstart_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- a migration of another database on this server was quicker
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted, may_set) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), wanted);
    END LOOP;
END
$$;

-- What a migration calls for each table that it makes. A table that is split is asked through its name alone: its parts
-- have policies of their own, which are none, and no rights.
CREATE PROCEDURE keep_tenants_apart(kept regclass, mine text DEFAULT 'tenant = current_setting(''headstart.tenant'', true)')
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', kept);
    EXECUTE format('CREATE POLICY one_tenant ON %s TO headstart_app USING (%s)', kept, mine);
    EXECUTE format('CREATE POLICY every_tenant ON %s TO headstart_worker USING (true)', kept);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO headstart_app, headstart_worker', kept);
END
$$;

-- Messages are the words themselves, so they say for themselves whose they are.
ALTER TABLE messages ADD COLUMN tenant text;
UPDATE messages SET tenant = turns.tenant FROM turns WHERE turns.turn = messages.turn;
ALTER TABLE messages ALTER COLUMN tenant SET NOT NULL;

CALL keep_tenants_apart('api_keys');
CALL keep_tenants_apart('submit_claims');
CALL keep_tenants_apart('conversations');
CALL keep_tenants_apart('turns');
CALL keep_tenants_apart('messages');
CALL keep_tenants_apart('memories');
CALL keep_tenants_apart('examples');
CALL keep_tenants_apart('habits');
CALL keep_tenants_apart('readings');
CALL keep_tenants_apart('edits');
CALL keep_tenants_apart('skills', 'tenants = ''{}'' OR current_setting(''headstart.tenant'', true) = ANY (tenants)');

DROP TABLE approvals; -- what waits for a person's word stands in the log

-- No tenant's words: locks by the ids of turns and calls, what services have sent and may send, offsets, hashes of members,
-- names of migrations.
GRANT SELECT, INSERT, UPDATE, DELETE
    ON call_claims, service_records, service_quotas, positions, forgotten_members TO headstart_worker;
GRANT SELECT ON schema_migrations TO headstart_app, headstart_worker;
GRANT SELECT ON call_claims, service_quotas TO headstart_app; -- which of them are of a member's turns and keys
REVOKE ALL ON FUNCTION memories_by_words FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memories_by_words TO headstart_app;
