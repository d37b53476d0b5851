#!/bin/sh
# Run once, when the database is made.
psql --set=ON_ERROR_STOP=1 --set=password="$PGPASSWORD" --username=owner --dbname=shop --file=/roles.sql
