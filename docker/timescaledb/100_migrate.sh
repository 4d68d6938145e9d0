#!/bin/sh
# Run once, when the database is made: the login that `barwright migrate` works as. It is no superuser; it owns the
# database and may make roles.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=database="$POSTGRES_DB" \
  --set=password="$(cat "${MIGRATE_PASSWORD_FILE:-/run/secrets/migrate_password}")" \
  --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
set password_encryption = 'scram-sha-256';
create role barwright_migrate login createrole password :'password';
alter database :"database" owner to barwright_migrate;
SQL
