"""An Elasticsearch that is now and then too busy: forwards to a real one, and refuses as often as a request asks for it.

A request with the header `x-fault: STATUS TIMES KEY` is answered with that status, in Elasticsearch's shape, the first TIMES times that KEY comes; then it goes on."""

import collections
import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}
REFUSALS = {429: "es_rejected_execution_exception", 503: "no_shard_available_action_exception"}


class Faulty:
    """Runs on threads of its own until `close`."""

    def __init__(self, target):
        address = urllib.parse.urlsplit(target)
        seen, lock = collections.Counter(), threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = read_body(self)
                refused = self.refusal()
                if refused:
                    self.answer(refused, [("X-elastic-product", "Elasticsearch"), ("content-type", "application/json")], error(refused))
                    return
                upstream = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                    upstream.request(self.command, self.path, body=body, headers=headers)
                    response = upstream.getresponse()
                    sent = response.read()
                    kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
                    length = response.getheader("content-length") if self.command == "HEAD" else None
                    self.answer(response.status, kept, sent, length)
                finally:
                    upstream.close()

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = handle_one

            def refusal(self):
                status, times, key = (self.headers.get("x-fault") or "0 0 -").split(" ")
                with lock:
                    seen[key] += 1
                    return int(status) if seen[key] <= int(times) else 0

            def answer(self, status, headers, body, length=None):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", length or str(len(body)))
                # Whoever did not wait for it has no use for it.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(body if self.command != "HEAD" else b"")

            def log_message(self, *_):
                """Not worth a line each."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def error(status):
    reason = {"type": REFUSALS.get(status, "exception"), "reason": "too busy, as a test asked for"}
    return json.dumps({"error": {"root_cause": [reason], **reason}, "status": status}).encode()


def read_body(handler):
    if (handler.headers.get("transfer-encoding") or "").lower() == "chunked":
        body = b""
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
        return body
    length = int(handler.headers.get("content-length") or 0)
    return handler.rfile.read(length) if length else None
