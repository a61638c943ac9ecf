-- Keys, conversations, turns and messages, and how far each partition of `events` has been projected into them.
-- Times are milliseconds since the epoch and come from the facts; nothing here reads the database's clock.
-- "member" is the user within a tenant (`user` is a reserved word).

CREATE TABLE api_keys (
    key_hash      bytea PRIMARY KEY CHECK (octet_length(key_hash) = 32),
    key_id        text NOT NULL UNIQUE,
    tenant        text NOT NULL,
    member        text NOT NULL,
    name          text NOT NULL,
    scopes        text[] NOT NULL,
    created_at_ms bigint NOT NULL,
    revoked_at_ms bigint
);
CREATE INDEX api_keys_by_member ON api_keys (tenant, member);

-- Which conversation the first submit with an idempotency key opened.
CREATE TABLE submit_claims (
    tenant        text NOT NULL,
    member        text NOT NULL,
    event_id      text NOT NULL,
    conversation  text NOT NULL,
    claimed_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, member, event_id)
);

CREATE TABLE conversations (
    conversation  text PRIMARY KEY,
    tenant        text NOT NULL,
    member        text NOT NULL,
    title         text NOT NULL,
    parent        text NOT NULL,
    parent_turn   text NOT NULL,
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    deleted       boolean NOT NULL DEFAULT false
);
CREATE INDEX conversations_last_used ON conversations (tenant, member, updated_at_ms DESC, conversation DESC)
    WHERE NOT deleted;

-- Offsets are positions in the log whose epoch is topic_epoch; of another log they say nothing.
CREATE TABLE turns (
    turn            text PRIMARY KEY,
    conversation    text NOT NULL REFERENCES conversations ON DELETE CASCADE,
    tenant          text NOT NULL,
    member          text NOT NULL,
    topic_epoch     bigint NOT NULL,
    partition       integer NOT NULL,
    begin_offset    bigint NOT NULL,
    end_offset      bigint NOT NULL,
    status          text NOT NULL CHECK (status IN ('running', 'completed', 'incomplete', 'cancelled', 'failed')),
    reason          text NOT NULL,
    routed          boolean NOT NULL,
    agent           text NOT NULL,
    awaiting        text NOT NULL,
    models          jsonb NOT NULL,
    accepted_at_ms  bigint NOT NULL,
    ended_at_ms     bigint NOT NULL,
    previous_turn   text NOT NULL,
    previous_offset bigint NOT NULL,
    event_id        text NOT NULL,
    origin          text NOT NULL
);
CREATE INDEX turns_by_conversation ON turns (conversation, accepted_at_ms, begin_offset);
CREATE INDEX turns_by_member ON turns (tenant, member);

CREATE TABLE messages (
    turn     text NOT NULL REFERENCES turns ON DELETE CASCADE,
    position integer NOT NULL,
    role     text NOT NULL,
    kind     text NOT NULL,
    call_id  text NOT NULL,
    name     text NOT NULL,
    status   text NOT NULL,
    text     text NOT NULL,
    PRIMARY KEY (turn, position)
);

-- position: every turn that ended at or before it is stored. resume: where to begin to read so that every turn that
-- was open at the position is seen whole. Written in the transaction of the rows.
CREATE TABLE positions (
    topic_epoch bigint NOT NULL,
    partition   integer NOT NULL,
    position    bigint NOT NULL,
    resume      bigint NOT NULL,
    PRIMARY KEY (topic_epoch, partition)
);

-- Nothing said at or before forgotten_at_ms is taken from this member any more, whichever partition it comes from.
-- The hash covers tenant and member, so that the table itself remembers nobody.
CREATE TABLE forgotten_members (
    member_hash     bytea PRIMARY KEY CHECK (octet_length(member_hash) = 32),
    forgotten_at_ms bigint NOT NULL
);
