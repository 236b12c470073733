-- Nothing here: SQLite has no functions of the schema's own. The name is there because both stores have the same migrations.
SELECT 1;
