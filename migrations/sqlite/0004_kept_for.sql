-- For how long a key was observed to be deactivated: what it signed may still be under way until then.
ALTER TABLE keys ADD COLUMN kept_for_ms INTEGER NOT NULL DEFAULT 0;
