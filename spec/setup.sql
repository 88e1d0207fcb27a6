-- Everything a Floe job needs in an account: roles, database, compute pool, image repository, stages, grants.
-- Run once, as ACCOUNTADMIN or a role with CREATE ROLE, CREATE DATABASE and CREATE COMPUTE POOL; running it
-- again changes nothing. Names are used by the other files of this folder; quoted names won't do, because a job
-- service and its database and schema take unquoted identifiers only.
USE ROLE ACCOUNTADMIN;

-- Two roles, so that who runs jobs can't change the program or the model they run.
CREATE ROLE IF NOT EXISTS FLOE_PUBLISHER COMMENT = 'Floe: pushes images, uploads models and input';
CREATE ROLE IF NOT EXISTS FLOE_RUNNER    COMMENT = 'Floe: launches jobs, owns them, loads their results';
GRANT ROLE FLOE_PUBLISHER TO ROLE SYSADMIN;
GRANT ROLE FLOE_RUNNER    TO ROLE SYSADMIN;

CREATE DATABASE IF NOT EXISTS FLOE;
CREATE SCHEMA   IF NOT EXISTS FLOE.JOBS;

-- One node per replica at most. The shared system pools do not take job services of one's own.
-- AUTO_SUSPEND_SECS: a node is billed for five minutes at least, so a shorter wait saves nothing.
CREATE COMPUTE POOL IF NOT EXISTS FLOE_CPU
  MIN_NODES = 1
  MAX_NODES = 3
  INSTANCE_FAMILY = CPU_X64_S
  AUTO_RESUME = TRUE
  INITIALLY_SUSPENDED = TRUE
  AUTO_SUSPEND_SECS = 300
  COMMENT = 'Floe: batch inference';

CREATE IMAGE REPOSITORY IF NOT EXISTS FLOE.JOBS.IMAGES;

-- Server-side encryption: Floe refuses stages whose clients encrypt, and stage volumes ask for it too.
CREATE STAGE IF NOT EXISTS FLOE.JOBS.MODELS ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE') COMMENT = 'Floe: one folder per model';
CREATE STAGE IF NOT EXISTS FLOE.JOBS.INPUT  ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE') COMMENT = 'Floe: one folder per data set, Parquet';
CREATE STAGE IF NOT EXISTS FLOE.JOBS.OUTPUT ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE') COMMENT = 'Floe: one folder per launch';
CREATE STAGE IF NOT EXISTS FLOE.JOBS.SPECS  ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE') COMMENT = 'Floe: service specifications';

-- load.sql reads results through these.
CREATE FILE FORMAT IF NOT EXISTS FLOE.JOBS.FLOE_PARQUET
  TYPE = PARQUET
  USE_LOGICAL_TYPE = TRUE
  USE_VECTORIZED_SCANNER = TRUE
  BINARY_AS_TEXT = FALSE;
CREATE FILE FORMAT IF NOT EXISTS FLOE.JOBS.FLOE_JSON TYPE = JSON;

-- Both roles can see the schema.
GRANT USAGE ON DATABASE FLOE    TO ROLE FLOE_PUBLISHER;
GRANT USAGE ON SCHEMA FLOE.JOBS TO ROLE FLOE_PUBLISHER;
GRANT USAGE ON DATABASE FLOE    TO ROLE FLOE_RUNNER;
GRANT USAGE ON SCHEMA FLOE.JOBS TO ROLE FLOE_RUNNER;

-- The publisher brings things in.
GRANT READ, WRITE ON IMAGE REPOSITORY FLOE.JOBS.IMAGES TO ROLE FLOE_PUBLISHER;
GRANT READ, WRITE ON STAGE FLOE.JOBS.MODELS            TO ROLE FLOE_PUBLISHER;
GRANT READ, WRITE ON STAGE FLOE.JOBS.INPUT             TO ROLE FLOE_PUBLISHER;
GRANT READ, WRITE ON STAGE FLOE.JOBS.SPECS             TO ROLE FLOE_PUBLISHER;

-- The runner owns the job, and so is the role that the containers act as. No WRITE on model and input:
-- they can only be read then, whatever a job asks for.
GRANT CREATE SERVICE  ON SCHEMA FLOE.JOBS               TO ROLE FLOE_RUNNER;
GRANT CREATE TABLE    ON SCHEMA FLOE.JOBS               TO ROLE FLOE_RUNNER;
GRANT USAGE, MONITOR  ON COMPUTE POOL FLOE_CPU          TO ROLE FLOE_RUNNER;
GRANT READ            ON IMAGE REPOSITORY FLOE.JOBS.IMAGES TO ROLE FLOE_RUNNER;
GRANT READ            ON STAGE FLOE.JOBS.MODELS         TO ROLE FLOE_RUNNER;
GRANT READ            ON STAGE FLOE.JOBS.INPUT          TO ROLE FLOE_RUNNER;
GRANT READ            ON STAGE FLOE.JOBS.SPECS          TO ROLE FLOE_RUNNER;
GRANT READ, WRITE     ON STAGE FLOE.JOBS.OUTPUT         TO ROLE FLOE_RUNNER;
GRANT USAGE ON FILE FORMAT FLOE.JOBS.FLOE_PARQUET       TO ROLE FLOE_RUNNER;
GRANT USAGE ON FILE FORMAT FLOE.JOBS.FLOE_JSON          TO ROLE FLOE_RUNNER;

-- For you to fill in:
--   GRANT ROLE FLOE_PUBLISHER TO USER <who builds>;
--   GRANT ROLE FLOE_RUNNER    TO USER <who runs>;
--   GRANT USAGE ON WAREHOUSE <one> TO ROLE FLOE_RUNNER;          -- load.sql and watch.sql query; a job doesn't

-- Then, from a shell. The first command prints the repository's address.
--   snow sql -q 'SHOW IMAGE REPOSITORIES IN SCHEMA FLOE.JOBS'    -- column repository_url
--   snow spcs image-registry login
--   docker build --platform linux/amd64 -t <repository_url>/floe:0.1.0 .
--   docker push <repository_url>/floe:0.1.0
--   snow stage copy examples/flights/model @FLOE.JOBS.MODELS/flights/ --recursive
--   snow stage copy examples/flights/data  @FLOE.JOBS.INPUT/flights/  --recursive
