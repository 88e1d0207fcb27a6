"""moto's S3 server, with put-if-absent as S3 has it.

    python moto_server.py -H 127.0.0.1 -p 5000

moto looks whether a name is free and stores the object in two steps, in a thread for each request: of creators who come at
once more than one may be told that it won. Here conditional requests are carried out one at a time.
"""

import io
import sys
import threading

from moto import server


class OneAtATime:
    def __init__(self, app):
        self.app = app
        self.turn = threading.Lock()

    def __call__(self, environ, start_response):
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
            return self.app(environ, start_response)
        # Read before it is its turn: a client that is slow to send holds up nobody.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with self.turn:
            return list(self.app(environ, start_response))


def main():
    run = server.run_simple
    server.run_simple = lambda host, port, app, **more: run(host, port, OneAtATime(app), **more)
    server.main(sys.argv[1:])


if __name__ == "__main__":
    main()
