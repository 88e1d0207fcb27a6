"""Drives a gateway with Snowflake's own connector, and says what it saw as one line of JSON.

    snowflake_connector.py PORT FOLDER STAGE…

For each stage: PUT two files, LIST, GET one back, REMOVE both. FOLDER is for scratch files. The connector speaks https to
clouds; where a stage's endpoint is http:// on this machine, as in tests, its clients are told so, and nothing else.
"""

import json
import os
import pathlib
import sys

import snowflake.connector
from snowflake.connector.azure_storage_client import SnowflakeAzureRestClient
from snowflake.connector.gcs_storage_client import GcsLocation, SnowflakeGCSRestClient
from snowflake.connector.s3_storage_client import SnowflakeS3RestClient

# As the gateway in tests/it/snowflake knows them.
ACCOUNT, USER, PASSWORD = "testacct", "FLOE_USER", "pw-c4n4ry-zeile"


def speak_plainly_to_this_machine():
    configure = SnowflakeS3RestClient.transfer_accelerate_config
    locate = SnowflakeGCSRestClient.get_location

    def s3(self, use_accelerate_endpoint=None):
        endpoint = self.stage_info["endPoint"] or ""
        if endpoint.startswith("http://127.0.0.1:"):
            self.endpoint = f"{endpoint}/{self.s3location.bucket_name}"
            return False
        return configure(self, use_accelerate_endpoint)

    def gcs(stage_location, use_regional_url=False, region=None, endpoint=None, use_virtual_url=False):
        located = locate(stage_location, use_regional_url, region, None, use_virtual_url)
        if (endpoint or "").startswith("http://127.0.0.1:"):
            return GcsLocation(located.bucket_name, located.path, endpoint)
        return locate(stage_location, use_regional_url, region, endpoint, use_virtual_url)

    send = SnowflakeAzureRestClient._send_request_with_authentication_and_retry

    def azure(self, verb, url, *arguments, **more):
        begin = f"https://{self.storage_account}.blob.{self.endpoint}/"
        if self.endpoint.startswith("http://127.0.0.1:") and url.startswith(begin):
            url = f"{self.endpoint}/{self.storage_account}/{url[len(begin):]}"
        return send(self, verb, url, *arguments, **more)

    SnowflakeAzureRestClient._send_request_with_authentication_and_retry = azure
    SnowflakeS3RestClient.transfer_accelerate_config = s3
    SnowflakeGCSRestClient.get_location = staticmethod(gcs)


def round_trip(cursor, stage, folder):
    """What two files come back as, and what each statement answered."""
    sent = folder / "sent"
    sent.mkdir(exist_ok=True)
    source = sent / "a file.txt"
    source.write_text(f"content for {stage}\n" * 1000)
    (sent / "b.txt").write_text("b")
    put = cursor.execute(f"PUT 'file://{sent}/*.txt' '{stage}/deep' AUTO_COMPRESS=FALSE OVERWRITE=TRUE").fetchall()
    listed = cursor.execute(f"LIST '{stage}/deep/'").fetchall()
    back = folder / "back"
    back.mkdir(exist_ok=True)
    got = cursor.execute(f"GET '{stage}/deep/a file.txt' 'file://{back}/'").fetchall()
    fetched = back / "a file.txt"
    is_same = fetched.read_bytes() == source.read_bytes()
    os.remove(fetched)
    removed = cursor.execute(f"REMOVE '{stage}/deep/'").fetchall()
    left = cursor.execute(f"LIST '{stage}/deep/'").fetchall()
    return {
        "put": [row[6] for row in put],
        "listed": sorted([row[0], int(row[1])] for row in listed),
        "got": got[0][2],
        "is_same": is_same,
        "removed": len(removed),
        "left": len(left),
    }


def main():
    port, folder, stages = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    speak_plainly_to_this_machine()
    to_gateway = {
        "host": "127.0.0.1", "port": port, "protocol": "http", "account": ACCOUNT, "login_timeout": 10,
        "database": "db", "schema": "s",
    }
    said = {"version": snowflake.connector.__version__, "stages": {}}
    try:
        snowflake.connector.connect(user=USER, password="wrong", **to_gateway)
    except snowflake.connector.errors.DatabaseError as error:
        said["wrong password"] = error.errno
    with snowflake.connector.connect(user=USER, password=PASSWORD, **to_gateway) as connection:
        cursor = connection.cursor()
        said["one"] = cursor.execute("SELECT 1").fetchall()[0][0]
        try:
            cursor.execute("LIST @nowhere")
        except snowflake.connector.errors.ProgrammingError as error:
            said["no stage"] = error.errno
        for stage in stages:
            said["stages"][stage] = round_trip(cursor, stage, folder)
    key = folder / "key.p8"
    if key.exists():
        with snowflake.connector.connect(user=USER, private_key_file=str(key), **to_gateway) as connection:
            said["by key"] = connection.cursor().execute("SELECT 1").fetchall()[0][0]
    print(json.dumps(said))


main()
