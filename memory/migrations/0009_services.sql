-- What services write to `turns`: each record is taken at one place, under one verdict, however often it is read; and what
-- each key has left of its quota, for all workers together.

CREATE TABLE service_records (
    record      text PRIMARY KEY,
    place       text NOT NULL,
    taken_at_ms bigint NOT NULL,
    wait_ms     double precision NOT NULL
);

CREATE INDEX service_records_age ON service_records (taken_at_ms);

CREATE TABLE service_quotas (
    key_id  text PRIMARY KEY,
    tokens  double precision NOT NULL,
    at_ms   bigint NOT NULL,
    granted boolean NOT NULL
);

-- Claims of such records stood among those of calls.
INSERT INTO service_records (record, place, taken_at_ms, wait_ms)
SELECT substr(turn, 8), writer, claimed_at_ms, 0 FROM call_claims WHERE turn LIKE 'record\_%';

DELETE FROM call_claims WHERE turn LIKE 'record\_%';
