-- What people said of their memories and habits, for as long as it may still matter: what was forgotten is not stored again,
-- whenever it comes, and a habit that is counted anew from an older log keeps its correction. Ids are hashes; no words of
-- what was forgotten are kept.
CREATE TABLE edits (
    tenant          text NOT NULL,
    member          text NOT NULL,
    item            text NOT NULL,
    turn            text NOT NULL,
    correction      text NOT NULL,
    muted           boolean NOT NULL,
    forgotten_at_ms bigint NOT NULL,
    at_ms           bigint NOT NULL,
    PRIMARY KEY (tenant, member, item)
);
CREATE INDEX edits_forgotten_turns ON edits (tenant, member, turn) WHERE turn <> '' AND forgotten_at_ms >= 0;
