DROP TABLE tree_heads;
DROP TABLE update_notes;
DROP TABLE events;
DROP TABLE schema_requirements;
