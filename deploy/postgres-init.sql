-- What docker-compose.yml needs in a new PostgreSQL: the owner of the tables, the role that the service runs as, and the
-- database. The image runs it once, as its administrator, when it makes the volume. It is for psql, which reads the secrets.
--
-- What the second role may do is said in postgres-role.sql, after the tables have been made.

\set owner_password `cat /run/secrets/owner_password`
\set service_password `cat /run/secrets/service_password`

CREATE ROLE auditlog LOGIN PASSWORD :'owner_password';
CREATE ROLE auditlog_service LOGIN PASSWORD :'service_password';
CREATE DATABASE auditlog OWNER auditlog;
