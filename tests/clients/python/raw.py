"""One HTTP request on a socket, with the answer as it came: for what a client library would hide."""

import dataclasses
import gzip
import socket
import urllib.parse
import zlib


@dataclasses.dataclass
class Answer:
    """`head` holds the status line and headers as sent; the body is joined from its chunks."""

    head: list
    body: bytes

    @property
    def status(self):
        return int(self.head[0].split()[1])

    @property
    def names(self):
        """The headers' names in lower case."""
        return {line.split(":", 1)[0].lower() for line in self.head[1:]}

    def header(self, name):
        return next((line.split(":", 1)[1].strip() for line in self.head[1:] if line.lower().startswith(name.lower() + ":")), None)

    @property
    def text(self):
        """The body without its content encoding."""
        encoding = self.header("content-encoding")
        return gzip.decompress(self.body) if encoding == "gzip" else zlib.decompress(self.body) if encoding == "deflate" else self.body


class Raw:
    """Asks one server, a connection per request."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port)

    def ask(self, method, target, body=None, headers=None):
        sent = {"host": "elasticsearch", **({"content-type": "application/json", "content-length": str(len(body))} if body is not None else {})} | (headers or {})
        lines = [f"{method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in sent.items()]
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
            return read(connection.makefile("rb"), method)

    def send_part(self, method, target, body, promised):
        """Announces more bytes than it sends, then closes."""
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {promised}\r\n\r\n".encode() + body)


def read(stream, method):
    head = []
    while (line := stream.readline().rstrip(b"\r\n")) or not head:
        if not line and not head:
            raise ConnectionError("the server closed the connection without an answer")
        head.append(line.decode())
    answer = Answer(head, b"")
    if method == "HEAD" or answer.status in (204, 304):
        return answer
    if (answer.header("transfer-encoding") or "").lower() == "chunked":
        while size := int(stream.readline(), 16):
            answer.body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        answer.body = stream.read(int(answer.header("content-length") or 0))
    return answer
