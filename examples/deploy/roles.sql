-- Two roles: `owner` makes the tables (`cxguard migrate`), `shop` uses them and can alter none of them.
-- psql --set=password=... --username=owner --dbname=shop --file=roles.sql
CREATE ROLE shop LOGIN PASSWORD :'password';
CREATE SCHEMA IF NOT EXISTS cxguard;
GRANT USAGE ON SCHEMA cxguard TO shop;
ALTER DEFAULT PRIVILEGES IN SCHEMA cxguard GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO shop;
ALTER DEFAULT PRIVILEGES IN SCHEMA cxguard GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO shop;  -- UPDATE: after a failover they jump ahead
