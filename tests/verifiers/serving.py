"""What the servers in Python share: their start, their end, and one line of JSON for each event. README.md has the contract."""

import argparse
import json
import os
import signal
import sys
import threading

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

STDOUT = threading.Lock()


def serve(description, add_routes):
    """Serves on loopback until it is told to stop. `add_routes(app, origin)` gives the first line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="default: the system chooses")
    parser.add_argument("--watch-stdin", action="store_true", help="exit when standard input closes")
    options = parser.parse_args()

    app = Flask(__name__)
    server = make_server("127.0.0.1", options.port, app, threaded=True, request_handler=QuietHandler)
    first = add_routes(app, f"http://127.0.0.1:{server.server_port}")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    if options.watch_stdin:
        threading.Thread(target=exit_at_end_of_stdin, daemon=True).start()
    emit(first)
    server.serve_forever()


class QuietHandler(WSGIRequestHandler):
    def log_request(self, *_):
        """Requests are reported as events; an access log would only repeat them."""


def emit(value):
    """Prints one line of JSON, whole even when two requests end at the same time."""
    with STDOUT:
        print(json.dumps(value), flush=True)


def exit_at_end_of_stdin():
    sys.stdin.buffer.read()
    os._exit(0)
