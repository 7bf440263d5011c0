"""TLS as the official client knows it: `ca_certs`, `ssl_assert_fingerprint`, client certificates; and an Elasticsearch that wants TLS and our certificate.

The test nodes have no TLS (x-pack is absent), so OpenSSL ends it in front of the node (`Terminator`): both of our sides meet another implementation. Certificates come from
`scripts/certs`."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import elasticsearch
import pytest
from elasticsearch import helpers
from ports import free_ports
from process import Process
from stack import ROOT

INDEX = "tls-books"
BINARY = os.environ.get("OUTRIGGER_BINARY")
pytestmark = pytest.mark.skipif(BINARY is None, reason="OUTRIGGER_BINARY names the program (scripts/test-clients sets it)")


class Terminator(threading.Thread):
    """Ends TLS by OpenSSL, asks for a client's certificate, and hands the bytes on in clear."""

    def __init__(self, certificates, url):
        super().__init__(daemon=True)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.crt")
        self.context.load_cert_chain(certificates / "node.crt", certificates / "node.key")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.to = urllib.parse.urlsplit(url)
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context))
        self.url = f"https://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.start()

    def run(self):
        self.loop.run_forever()

    async def serve(self, reader, writer):
        to_reader, to_writer = await asyncio.open_connection(self.to.hostname, self.to.port)
        await asyncio.gather(self.copy(reader, to_writer), self.copy(to_reader, writer))

    async def copy(self, reader, writer):
        # Who leaves ends both directions.
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                writer.write(part)
                await writer.drain()
        writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()


class Sidecar(Process):
    """An Outrigger with these options."""

    def __init__(self, folder, *options):
        folder.mkdir(exist_ok=True)
        self.listen, self.admin = (f"127.0.0.1:{port}" for port in free_ports(0, 0))
        self.url = f"https://{self.listen}"
        command = [BINARY, "serve", "--listen", self.listen, "--admin-listen", self.admin, "--data-dir", folder / "data", *options]
        super().__init__("Outrigger", command, folder / "log")

    def wait(self, ask):
        """What `ask` returns once it is true."""
        return eventually(ask, self.is_running, self.log_end)


def eventually(ask, may_go_on=lambda: True, told=lambda: ""):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and may_go_on():
        with contextlib.suppress(OSError):
            if answer := ask():
                return answer
        time.sleep(0.05)
    raise AssertionError(f"not within a minute: {told()}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([ROOT / "scripts/certs", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def fingerprint(file):
    """Of the first certificate of a file."""
    pem = file.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def upstream_options(certificates, upstream, trusted):
    return ("--upstream", upstream, "--upstream-ca-fingerprint", trusted, "--upstream-certificate", certificates / "node.crt", "--upstream-key", certificates / "node.key")


@pytest.fixture(scope="module")
def sidecar(servers, certificates, tmp_path_factory):
    """TLS on all sides: its pair of files may be replaced, clients may show certificates."""
    terminator = Terminator(certificates, servers[1])
    folder = tmp_path_factory.mktemp("sidecar")
    for kind in ("crt", "key"):
        shutil.copy(certificates / f"node.{kind}", folder / f"used.{kind}")
    started = Sidecar(
        folder,
        *upstream_options(certificates, terminator.url, fingerprint(certificates / "ca.crt")),
        *("--tls-certificate", folder / "used.crt", "--tls-key", folder / "used.key", "--admin-tls", "true"),
        *("--tls-client-auth", "optional", "--tls-client-ca", certificates / "ca.crt"),
    )
    started.folder = folder
    try:
        started.wait(lambda: admin(started, certificates, "/health/ready"))
        yield started
    finally:
        started.close()
        terminator.stop()


def admin(sidecar, certificates, path):
    context = ssl.create_default_context(cafile=certificates / "ca.crt")
    with urllib.request.urlopen(f"https://{sidecar.admin}{path}", context=context, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def client(sidecar, certificates):
    with elasticsearch.Elasticsearch(sidecar.url, ca_certs=str(certificates / "ca.crt"), request_timeout=60) as client:
        yield client
        client.indices.delete(index=INDEX, ignore_unavailable=True)


def test_ca_certs_and_a_search_that_is_answered_here(client, sidecar, certificates):
    field = {"type": "dense_vector", "dims": 4, "similarity": "l2_norm", "index_options": {"type": "ivf"}}
    client.indices.create(index=INDEX, mappings={"properties": {"vector": field}})
    documents = ({"_index": INDEX, "_id": str(number), "vector": [number, 1, 2, 3], "text": "x" * 2000} for number in range(2000))
    assert helpers.bulk(client, documents, refresh="wait_for") == (2000, [])
    eventually(lambda: client.perform_request("GET", f"/_ivf/{INDEX}/_stats", headers={"accept": "application/json"}).body["ready"])
    knn = {"field": "vector", "query_vector": [7, 1, 2, 3], "k": 3, "num_candidates": 100}
    found = client.options(headers={"x-outrigger-explain": "true"}).search(index=INDEX, knn=knn, source=False)
    assert {hit["_id"] for hit in found["hits"]["hits"]} == {"6", "7", "8"}
    assert found.meta.headers["x-outrigger"].split(";")[0] in ("answer", "fetch"), "the feed came by TLS too"
    assert len(client.search(index=INDEX, query={"match_all": {}}, size=1000)["hits"]["hits"]) == 1000


def test_ssl_assert_fingerprint(client, sidecar, certificates):
    for file in ("ca.crt", "node.crt"):
        with elasticsearch.Elasticsearch(sidecar.url, ssl_assert_fingerprint=fingerprint(certificates / file)) as pinned:
            assert pinned.info()["version"]["number"]
    with elasticsearch.Elasticsearch(sidecar.url, ssl_assert_fingerprint=fingerprint(certificates / "client.crt"), max_retries=0) as pinned:
        with pytest.raises(elasticsearch.ConnectionError):
            pinned.info()


def test_client_certificates(client, sidecar, certificates, tmp_path):
    pair = {"client_cert": str(certificates / "client.crt"), "client_key": str(certificates / "client.key")}
    with elasticsearch.Elasticsearch(sidecar.url, ca_certs=str(certificates / "ca.crt"), **pair) as known:
        assert known.info()["version"]["number"]
    subprocess.run([ROOT / "scripts/certs", tmp_path], check=True, stdout=subprocess.DEVNULL)
    strange = {"client_cert": str(tmp_path / "client.crt"), "client_key": str(tmp_path / "client.key")}
    with elasticsearch.Elasticsearch(sidecar.url, ca_certs=str(certificates / "ca.crt"), max_retries=0, **strange) as stranger:
        with pytest.raises(elasticsearch.ConnectionError):
            stranger.info()
    with elasticsearch.Elasticsearch(sidecar.url, ca_certs=str(tmp_path / "ca.crt"), max_retries=0) as misled:
        with pytest.raises(elasticsearch.SSLError):
            misled.info()


def test_plain_http_is_told_so(client, sidecar):
    with elasticsearch.Elasticsearch(f"http://{sidecar.listen}") as plain:
        with pytest.raises(elasticsearch.BadRequestError, match="HTTPS"):
            plain.info()


def test_a_new_certificate_is_taken_and_a_broken_one_is_not(client, sidecar, certificates, tmp_path):
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    (tmp_path / "node.key").unlink()
    subprocess.run([ROOT / "scripts/certs", tmp_path], check=True, stdout=subprocess.DEVNULL)

    def shown():
        host, _, number = sidecar.listen.partition(":")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(number))))).hexdigest()

    def metric(outcome):
        return f'outrigger_tls_reloads_total{{what="server",outcome="{outcome}"}}' in admin(sidecar, certificates, "/metrics")

    assert shown() == fingerprint(certificates / "node.crt")
    (sidecar.folder / "used.crt").write_text("broken")
    eventually(lambda: metric("failed"))
    assert shown() == fingerprint(certificates / "node.crt")
    assert client.info()["version"]["number"]
    for kind in ("key", "crt"):
        # As tools do: written beside, then put in its place.
        shutil.copy(tmp_path / f"node.{kind}", sidecar.folder / "new")
        (sidecar.folder / "new").rename(sidecar.folder / f"used.{kind}")
    eventually(lambda: shown() == fingerprint(tmp_path / "node.crt"))
    assert metric("ok") and client.info()["version"]["number"]


def test_what_operators_see(client, sidecar, certificates):
    ready = json.loads(admin(sidecar, certificates, "/health/ready"))
    assert ready["status"] == "ready" and any("no security" in warning for warning in ready["warnings"]), ready
    metrics = admin(sidecar, certificates, "/metrics")
    for certificate in ("server", "admin", "client_ca", "upstream_client"):
        line = next(line for line in metrics.splitlines() if line.startswith("outrigger_tls_certificate_expiry") and f'"{certificate}"' in line)
        assert 360 < (float(line.split()[-1]) - time.time()) / 86400 < 366
    assert "PRIVATE KEY" not in sidecar.log.read_text()
    # It may be told by a reset, since nobody reads what it says.
    with socket.create_connection(sidecar.admin.split(":"), timeout=10) as plain, contextlib.suppress(ConnectionResetError):
        plain.sendall(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
        assert plain.recv(10) == b""


def test_another_elasticsearch_is_refused(servers, certificates, tmp_path):
    terminator = Terminator(certificates, servers[1])
    wrong = fingerprint(certificates / "client.crt")
    started = Sidecar(tmp_path / "sidecar", *upstream_options(certificates, terminator.url, wrong))
    try:
        with elasticsearch.Elasticsearch(f"http://{started.listen}", max_retries=0) as plain:
            started.wait(lambda: urllib.request.urlopen(f"http://{started.admin}/health/live", timeout=5).status == 200)
            with pytest.raises(elasticsearch.ApiError, match="ssl_handshake_exception") as refused:
                plain.info()
            assert refused.value.status_code == 502 and "fingerprint" in str(refused.value.body)
    finally:
        started.close()
        terminator.stop()


def test_wrong_files_end_it_at_once(certificates, tmp_path):
    command = [BINARY, "config", "--tls-certificate", certificates / "node.crt", "--tls-key", certificates / "client.key"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 78 and "client.key is not the key of" in done.stderr
    open_key = tmp_path / "open.key"
    shutil.copy(certificates / "node.key", open_key)
    open_key.chmod(0o644)
    command = [BINARY, "config", "--tls-certificate", certificates / "node.crt", "--tls-key", open_key]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0 and "open.key" in done.stdout and "PRIVATE" not in done.stdout
