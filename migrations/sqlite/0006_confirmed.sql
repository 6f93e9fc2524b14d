-- What an operator confirmed of a key, in milliseconds since the Unix epoch: that the authorization server has it, and that
-- the public URL shows it.
ALTER TABLE keys ADD COLUMN registered INTEGER;
ALTER TABLE keys ADD COLUMN rehearsed INTEGER;
