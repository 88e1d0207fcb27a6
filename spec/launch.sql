-- Launches one run of job-service.yaml and returns the job's name; watch.sql and load.sql take it from there.
--
-- Every call is a new run: a fresh run id goes to all its replicas, and its results get a folder of their own.
-- That is what lets a replica which is started again find its own work, and keeps two launches apart.
--
-- In this version the job stops at once with an explanation: results can't go to a stage volume yet. See the top
-- of job-service.yaml for what to change to try a single replica.
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
          location: /mnt/model
        input:
          stage_location: /mnt/input
          file_pattern: "**/*.parquet"
        output:
          stage_location: /mnt/output/' || LOWER(job) || '
          mode: error
      FLOE_RUN_ID: "' || run_id || '"
      FLOE_LOG: info
      MLRS_MIN_INSTANCES: "' || replicas || '"
    volumeMounts:
    - name: model
      mountPath: /mnt/model
    - name: input
      mountPath: /mnt/input
    - name: output
      mountPath: /mnt/output
    resources:
      requests:
        cpu: 2
        memory: 8Gi
      limits:
        cpu: 2
        memory: 8Gi
    mountSessionToken: false
  volumes:
  - name: model
    source: stage
    uid: 65532
    gid: 65532
    stageConfig:
      name: "@FLOE.JOBS.MODELS/flights"
      metadataCache: 1h
  - name: input
    source: stage
    uid: 65532
    gid: 65532
    stageConfig:
      name: "@FLOE.JOBS.INPUT/flights"
      metadataCache: 1h
      resources:
        requests: {cpu: 0.25, memory: 0.5Gi}
        limits: {cpu: 1, memory: 1Gi}
  - name: output
    source: stage
    uid: 65532
    gid: 65532
    stageConfig:
      name: "@FLOE.JOBS.OUTPUT"
  logExporters:
    eventTableConfig:
      logLevel: INFO
  platformMonitor:
    metricConfig:
      groups:
      - system
      - system_limits
      - status
      - storage
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
