-- Where a client's key set is published, if not at its default path. It stays there when the client is no longer configured.
ALTER TABLE client_states ADD COLUMN published_path TEXT;
