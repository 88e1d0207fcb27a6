-- Launches one run of job-service.yaml and returns the job's name; watch.sql and load.sql take it from there.
--
-- Every call is a new run: a fresh run id goes to all its replicas, and its results get a folder of their own.
-- That is what lets a replica which is started again find its own work, and keeps two launches apart.
--
-- The specification is that of job-service.yaml: stages by name. Not tried on an account yet.
USE ROLE FLOE_RUNNER;
USE SCHEMA FLOE.JOBS;

EXECUTE IMMEDIATE $$
DECLARE
  replicas INTEGER DEFAULT 3;                          -- at most MAX_NODES of the pool, to run all at once
  run_id   STRING;
  job      STRING;
  spec     STRING;
  command  STRING;
BEGIN
  run_id := REPLACE(UUID_STRING(), '-', '');
  job    := 'SCORE_FLIGHTS_' || UPPER(LEFT(run_id, 12));  -- unquoted identifiers only
  spec   := '
spec:
  containers:
  - name: main
    image: /floe/jobs/images/floe:0.1.0
    env:
      FLOE_JOB: |
        job_name: score_flights
        model:
          location: "@FLOE.JOBS.MODELS/flights"
        input:
          stage_location: "@FLOE.JOBS.INPUT/flights"
          file_pattern: "**/*.parquet"
        output:
          stage_location: "@FLOE.JOBS.OUTPUT/' || LOWER(job) || '"
          mode: error
      FLOE_RUN_ID: "' || run_id || '"
      FLOE_LOG: info
      MLRS_MIN_INSTANCES: "' || replicas || '"
    resources:
      requests:
        cpu: 2
        memory: 8Gi
      limits:
        cpu: 2
        memory: 8Gi
  logExporters:
    eventTableConfig:
      logLevel: INFO
  platformMonitor:
    metricConfig:
      groups:
      - system
      - system_limits
      - status
      - network
';
  -- Properties come before the specification: the command takes them in this order only.
  command :=
       'EXECUTE JOB SERVICE'
    || ' IN COMPUTE POOL FLOE_CPU'
    || ' NAME = FLOE.JOBS.' || job
    || ' ASYNC = TRUE'
    || ' REPLICAS = ' || replicas
    || ' COMMENT = ''Floe run ' || run_id || ''''
    || ' FROM SPECIFICATION ''' || spec || '''';
  EXECUTE IMMEDIATE :command;
  RETURN job;
END;
$$;
