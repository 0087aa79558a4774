"""An S3 server for tests: moto, made fit to be killed.

    python3 s3_server.py PORT FOLDER

moto alone lets two conditional puts of one name both win when they meet, and forgets all when it
ends. Here one request is answered at a time, and each that changed something is synced to a journal
before it is answered, and done again at the next start. There is one bucket, `tests`.
"""

import io, os, pickle, sys, threading

from moto.server import create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

BUCKET = {
    "REQUEST_METHOD": "PUT", "PATH_INFO": "/tests", "QUERY_STRING": "", "SCRIPT_NAME": "",
    "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "127.0.0.1", "CONTENT_LENGTH": "0", "wsgi.url_scheme": "http",
}


class Durable:
    def __init__(self, app, journal):
        self.app, self.turn = app, threading.Lock()
        self.answer(BUCKET, b"")
        if os.path.exists(journal):
            with open(journal, "rb") as kept:
                while self.again(kept):
                    pass
        self.journal = open(journal, "ab")

    def again(self, kept):
        try:
            self.answer(*pickle.load(kept))
            return True
        except (EOFError, pickle.UnpicklingError):
            return False

    def answer(self, environ, body):
        said = []
        whole = {**environ, "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
                 "wsgi.version": (1, 0), "wsgi.multithread": False,
                 "wsgi.multiprocess": False, "wsgi.run_once": False}
        parts = self.app(whole, lambda status, headers, failure=None: said.append((status, headers)))
        return said, b"".join(parts)

    def __call__(self, environ, start):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            # The client is gone in the middle of its request, which has not happened then.
            start("400 Bad Request", [])
            return []
        plain = {name: value for name, value in environ.items() if isinstance(value, str)}
        with self.turn:
            said, answer = self.answer(plain, body)
            status, headers = said[-1]
            if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE") and status.startswith("2"):
                pickle.dump((plain, body), self.journal)
                self.journal.flush()
                os.fsync(self.journal.fileno())
        start(status, headers)
        return [answer]


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), sys.argv[2]
    app = Durable(create_backend_app("s3"), os.path.join(folder, "journal"))
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=Quiet)
