-- What a model is given to read, as it was when the turn was stored; deleted with the reading.

ALTER TABLE readings ADD COLUMN text text NOT NULL DEFAULT '';
