-- Loads the results of a run into a table, after checking that they are all there.
--
-- Set the two values at the top of the block. `folder` is the one the job wrote to, `target` the table; an
-- existing table of that name is replaced, but only once the new rows are complete and counted.
USE ROLE FLOE_RUNNER;
USE SCHEMA FLOE.JOBS;

EXECUTE IMMEDIATE $$
DECLARE
  folder STRING DEFAULT '@FLOE.JOBS.OUTPUT/score_flights_1';
  target STRING DEFAULT 'FLOE.JOBS.FLIGHTS_SCORED';
  loading  STRING;                                     -- the table that becomes `target` when all is well
  command  STRING;
  marker   RESULTSET;
  expected INTEGER;                                    -- rows, as _SUCCESS has them
  sample   STRING;                                     -- a result file, for the columns and their types
  loaded   INTEGER;
  not_complete EXCEPTION (-20001, 'no _SUCCESS in the folder: the run is not complete, nothing was loaded');
  not_equal    EXCEPTION (-20002, 'the number of rows loaded differs from _SUCCESS: the table was left as it was');
BEGIN
  loading := target || '_LOADING';

  -- 1. _SUCCESS is written last, when the rows of every replica are there, and it says how many. Its absence is
  --    no error to SELECT: it gives no row.
  command :=
       'SELECT $1:rows::INTEGER AS n, $1:files[0].path::STRING AS f FROM ' || folder || '/'
    || ' (FILE_FORMAT => FLOE.JOBS.FLOE_JSON, PATTERN => ''.*/_SUCCESS'')';
  marker := (EXECUTE IMMEDIATE :command);
  FOR line IN marker DO
    expected := line.n;
    sample   := line.f;
  END FOR;
  IF (expected IS NULL) THEN
    RAISE not_complete;
  END IF;
  IF (expected = 0) THEN
    RETURN 'the run is complete and has no rows: nothing to load';
  END IF;

  -- 2. The columns, from one file: all files of a run have the same. INFER_SCHEMA is given that file by name,
  --    because it would take the JSON beside it for Parquet.
  command :=
       'CREATE OR REPLACE TABLE ' || loading || ' USING TEMPLATE ('
    || ' SELECT ARRAY_AGG(OBJECT_CONSTRUCT(*)) WITHIN GROUP (ORDER BY order_id)'
    || ' FROM TABLE(INFER_SCHEMA(LOCATION => ''' || folder || '/'', FILES => (''' || sample || '''),'
    || ' FILE_FORMAT => ''FLOE.JOBS.FLOE_PARQUET'', IGNORE_CASE => TRUE)))';
  EXECUTE IMMEDIATE :command;

  -- 3. All files. The pattern leaves out _SUCCESS and Floe's own state under _floe/, which holds no Parquet.
  command :=
       'COPY INTO ' || loading || ' FROM ' || folder || '/'
    || ' FILE_FORMAT = (FORMAT_NAME = ''FLOE.JOBS.FLOE_PARQUET'')'
    || ' MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE'
    || ' PATTERN = ''.*[.]parquet'''
    || ' ON_ERROR = ABORT_STATEMENT';
  EXECUTE IMMEDIATE :command;

  -- 4. Count, then swap in.
  SELECT COUNT(*) INTO :loaded FROM IDENTIFIER(:loading);
  IF (loaded <> expected) THEN
    RAISE not_equal;
  END IF;
  command := 'CREATE OR REPLACE TABLE ' || target || ' CLONE ' || loading || ' COPY GRANTS';
  EXECUTE IMMEDIATE :command;
  command := 'DROP TABLE ' || loading;
  EXECUTE IMMEDIATE :command;
  RETURN target || ': ' || loaded || ' rows';
END;
$$;
