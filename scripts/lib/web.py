"""A small HTTP client on one kept-alive connection, timed: what a client library would do, without its overhead in the latencies."""

import base64
import http.client
import json
import time
import urllib.parse


class Web:
    """One connection to one server. Not for use by two threads."""

    def __init__(self, url, timeout=60):
        self.url = url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=timeout)
        self.prefix = parts.path.rstrip("/")
        self.headers = {}
        if parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self.headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def send(self, method, path, body=None, kind="application/json", headers=None):
        """Returns status, headers (lower-case) and the body's JSON (or None)."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        sent = self.headers | (headers or {}) | ({"content-type": kind} if data is not None else {})
        try:
            self.connection.request(method, self.prefix + path, data, sent)
            answer = self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # A kept-alive connection that the server closed meanwhile; a second failure is real.
            self.connection.close()
            self.connection.request(method, self.prefix + path, data, sent)
            answer = self.connection.getresponse()
        text = answer.read()
        parsed = json.loads(text) if text and "json" in answer.headers.get("content-type", "") else None
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, parsed

    def expect(self, method, path, body=None, **options):
        """As `send`, for calls that must succeed; returns the JSON."""
        status, _, parsed = self.send(method, path, body, **options)
        if status >= 300:
            raise RuntimeError(f"{method} {self.url}{path} answered {status}: {json.dumps(parsed)[:600]}")
        return parsed

    def timed(self, path, body):
        """Milliseconds that one POST of ready bytes takes, the answer read to its end."""
        started = time.perf_counter()
        self.connection.request("POST", self.prefix + path, body, self.headers | {"content-type": "application/json"})
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"POST {self.url}{path} answered {answer.status}")
        return (time.perf_counter() - started) * 1000
