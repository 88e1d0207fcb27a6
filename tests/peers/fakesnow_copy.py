"""Makes a stage and a table in fakesnow, or loads the one into the other; says so as one line of JSON.

    fakesnow_copy.py PORT prepare|copy
"""

import json
import sys

import snowflake.connector


def main():
    port, step = int(sys.argv[1]), sys.argv[2]
    connection = snowflake.connector.connect(
        user="fake", password="snow", account="fakesnow", host="localhost", port=port, protocol="http",
    )
    cursor = connection.cursor()
    if step == "prepare":
        cursor.execute("CREATE DATABASE IF NOT EXISTS db")
        cursor.execute("CREATE SCHEMA IF NOT EXISTS db.s")
        cursor.execute("CREATE STAGE db.s.results")
        cursor.execute("CREATE TABLE db.s.scored (id BIGINT, name TEXT, value DOUBLE, row_hash BIGINT)")
        print(json.dumps({"ready": True}))
        return
    cursor.execute("USE SCHEMA db.s")
    cursor.execute(
        "COPY INTO scored FROM @results FILE_FORMAT = (TYPE = PARQUET) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
    )
    rows, total = cursor.execute("SELECT COUNT(*), SUM(id) FROM scored").fetchone()
    print(json.dumps({"rows": int(rows), "sum": int(total)}))


main()
