-- Whether the search_path is set or the schema named, it does the same.
SELECT 1;
