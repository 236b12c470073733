-- Nothing here: SQLite has no composite types, and rows are stored one by one. The name is there because both stores have
-- the same migrations.
SELECT 1;
