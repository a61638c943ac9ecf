-- Claims are locks: one row per call, holding its newest claim. Outcomes are facts of the log; the one kept here only
-- says that the claim is no longer in doubt.

CREATE TABLE call_claims (
    turn           text NOT NULL,
    call           integer NOT NULL,
    argument_hash  text NOT NULL,
    number         integer NOT NULL CHECK (number >= 1),
    writer         text NOT NULL,
    claimed_at_ms  bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    outcome        text,
    PRIMARY KEY (turn, call)
);

-- A call of a completed turn that waits for a person; the answer opens the successor turn.
CREATE TABLE approvals (
    request       text PRIMARY KEY,
    turn          text NOT NULL REFERENCES turns ON DELETE CASCADE,
    call          integer NOT NULL,
    skill         text NOT NULL,
    arguments     jsonb NOT NULL,
    asked_at_ms   bigint NOT NULL,
    expires_at_ms bigint NOT NULL
);

-- The version of each skill that is in force. tenants '{}': every tenant may use it.
CREATE TABLE skills (
    name      text PRIMARY KEY,
    version   text NOT NULL,
    manifest  jsonb NOT NULL,
    tenants   text[] NOT NULL,
    embedding vector({dimensions}) NOT NULL
);
