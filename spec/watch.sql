-- How is a job doing? Replace SCORE_FLIGHTS_JOB by the name that launch.sql returned.
USE ROLE FLOE_RUNNER;
USE SCHEMA FLOE.JOBS;

-- The job: PENDING, RUNNING, DONE, FAILED, CANCELLING, CANCELLED. DONE says that every replica exited with 0;
-- that the results are complete is said by _SUCCESS alone (load.sql looks at it).
DESCRIBE SERVICE SCORE_FLIGHTS_JOB;

-- Its replicas, and their containers with the last exit code (docs/spcs.md lists them).
SHOW SERVICE INSTANCES  IN SERVICE SCORE_FLIGHTS_JOB;
SHOW SERVICE CONTAINERS IN SERVICE SCORE_FLIGHTS_JOB;

-- Wait for the end, ten minutes at most.
CALL SCORE_FLIGHTS_JOB!SPCS_WAIT_FOR('DONE', 600);

-- The last lines of replica 0, while its container exists (100 KB at most).
SELECT SYSTEM$GET_SERVICE_LOGS('SCORE_FLIGHTS_JOB', '0', 'main', 50);

-- All lines of all replicas, out of the event table, also after the containers are gone.
SELECT timestamp, instance_id, log, record_attributes
FROM TABLE(SCORE_FLIGHTS_JOB!SPCS_GET_LOGS(START_TIME => DATEADD('hour', -24, CURRENT_TIMESTAMP())))
WHERE container_name = 'main'
ORDER BY timestamp;

-- The platform's own view: processor, memory, how each container ended (Done, Failed, FailedWithOOM).
SELECT *
FROM TABLE(SCORE_FLIGHTS_JOB!SPCS_GET_METRICS(START_TIME => DATEADD('hour', -24, CURRENT_TIMESTAMP())))
ORDER BY timestamp;

-- ---- the event table itself --------------------------------------------------------------------------------
-- Needs a role that may read it. This is the account's default one; another shows up in
--   SHOW PARAMETERS LIKE 'event_table' IN ACCOUNT;
-- Floe logs one JSON object a line, which arrives as columns: text in VALUE, level in RECORD, module in SCOPE,
-- everything else in RECORD_ATTRIBUTES.

-- How far is each replica? They log a line every ten seconds; this is the last of each.
SELECT COALESCE(resource_attributes:"snow.service.instance",
                resource_attributes:"snow.service.container.instance")::INTEGER AS replica,
       record_attributes:rows_done::INTEGER       AS rows_done,
       record_attributes:rows_total::INTEGER      AS rows_total,
       record_attributes:rows_per_second::INTEGER AS rows_per_second,
       record_attributes:seconds_left::INTEGER    AS seconds_left,
       timestamp
FROM SNOWFLAKE.TELEMETRY.EVENTS_VIEW
WHERE timestamp > DATEADD('day', -1, CURRENT_TIMESTAMP())
  AND record_type = 'LOG'
  AND resource_attributes:"snow.schema.name"  = 'JOBS'
  AND resource_attributes:"snow.service.name" = 'SCORE_FLIGHTS_JOB'
  AND scope:name = 'floe::progress'
QUALIFY ROW_NUMBER() OVER (PARTITION BY replica ORDER BY timestamp DESC) = 1
ORDER BY replica;

-- Warnings and errors of a job, with what they are about.
SELECT timestamp,
       COALESCE(resource_attributes:"snow.service.instance",
                resource_attributes:"snow.service.container.instance")::INTEGER AS replica,
       record:severity_text::STRING                                   AS level,
       scope:name::STRING                                             AS module,
       value::STRING                                                  AS message,
       record_attributes                                              AS attributes
FROM SNOWFLAKE.TELEMETRY.EVENTS_VIEW
WHERE timestamp > DATEADD('day', -1, CURRENT_TIMESTAMP())
  AND record_type = 'LOG'
  AND resource_attributes:"snow.schema.name"  = 'JOBS'
  AND resource_attributes:"snow.service.name" = 'SCORE_FLIGHTS_JOB'
  AND resource_attributes:"snow.service.container.name" = 'main'
  AND record:severity_text IN ('WARN', 'ERROR', 'FATAL')
ORDER BY timestamp;

-- How a job's replicas ended, and whether one of them ran out of memory.
SELECT timestamp,
       COALESCE(resource_attributes:"snow.service.instance",
                resource_attributes:"snow.service.container.instance")::INTEGER AS replica,
       record:metric.name::STRING                                     AS metric,
       record_attributes                                              AS attributes,
       value
FROM SNOWFLAKE.TELEMETRY.EVENTS_VIEW
WHERE timestamp > DATEADD('day', -1, CURRENT_TIMESTAMP())
  AND record_type = 'METRIC'
  AND resource_attributes:"snow.service.name" = 'SCORE_FLIGHTS_JOB'
  AND record:metric.name IN ('container.state.last.finished.reason', 'container.restarts')
ORDER BY timestamp;

-- ---- stop it -----------------------------------------------------------------------------------------------
-- Replicas get SIGTERM, drop the unit in hand and exit with 143. A launch with the same run id goes on from there.
--   CALL SCORE_FLIGHTS_JOB!SPCS_CANCEL_JOB();
