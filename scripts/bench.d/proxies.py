"""nginx and HAProxy from Debian's packages, set up as fairly as Outrigger is: two workers, kept-alive connections on both sides, no logs, no disk.

Where they are not installed, the packages (with what they need) are unpacked into the cache: nothing is installed, no service starts by itself."""

import os
import pathlib
import re
import shutil
import subprocess

from places import cache
from ports import free_ports
from process import Process, Stop, listens
from stack import say

NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
{user}
events {{ worker_connections 1024; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  client_max_body_size 100m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream elasticsearch {{
    server {upstream};
    keepalive 64;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024{ssl};{certificate}
    location / {{
      proxy_pass http://elasticsearch;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffers 16 16k;
      proxy_max_temp_file_size 0;
    }}
    location = /_static {{ default_type application/json; return 200 '{{"answer":"{answer}"}}'; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 2
  maxconn 2000
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend door
  bind 127.0.0.1:{port}{ssl}
  default_backend elasticsearch
backend elasticsearch
  server one {upstream}
"""


class Proxy(Process):
    """One of them, running in front of `upstream` (host:port). `certificates`: a folder of scripts/certs, to speak TLS with node.pem."""

    def __init__(self, name, upstream, folder, certificates=None):
        self.folder = pathlib.Path(folder) / (f"{name}-tls" if certificates else name)
        self.folder.mkdir()
        self.folder.chmod(0o755)
        (number,) = free_ports(0)
        self.server = f"127.0.0.1:{number}"
        program, environment = find(name)
        config = self.folder / f"{name}.conf"
        if name == "nginx":
            user = "user nobody nogroup;" if os.geteuid() == 0 else ""
            pair = f"\n    ssl_certificate {certificates}/node.pem;\n    ssl_certificate_key {certificates}/node.pem;\n    ssl_protocols TLSv1.2 TLSv1.3;" if certificates else ""
            ssl = " ssl" if certificates else ""
            config.write_text(NGINX.format(folder=self.folder, upstream=upstream, port=number, user=user, answer="x" * 100, ssl=ssl, certificate=pair))
            command = [program, "-p", self.folder, "-c", config, "-e", self.folder / "nginx.log"]
            version = [program, "-v"]
        else:
            ssl = f" ssl crt {certificates}/node.pem alpn http/1.1 ssl-min-ver TLSv1.2" if certificates else ""
            config.write_text(HAPROXY.format(upstream=upstream, port=number, ssl=ssl))
            command = [program, "-f", config, "-db", "-q"]
            version = [program, "-v"]
        said = subprocess.run(version, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=True).stdout
        self.version = re.search(r"\d+\.\d+\.\d+[\w.+~-]*", said).group()
        super().__init__(name, command, self.folder / "out", environment)
        self.wait_until(lambda: listens(self.server), within=10)
        say(f"{name} {self.version} answers on {self.server}")


def find(name):
    """The program and the environment to run it in: the system's, or unpacked from Debian's packages."""
    system = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if system:
        return system, dict(os.environ)
    root = cache() / "debian" / name
    if not (root / ".ready").exists():
        unpack(name, root)
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    environment = dict(os.environ) | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    return str(next(root.rglob(f"sbin/{name}"))), environment


def unpack(name, root):
    say(f"fetching Debian's {name}")
    shutil.rmtree(root, ignore_errors=True)
    archives = root / "archives"
    (archives / "partial").mkdir(parents=True)
    options = ["-o", "Debug::NoLocking=1", "-o", f"Dir::Cache::archives={archives}", "-o", "APT::Sandbox::User=root"]
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "--reinstall", "--download-only", *options, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Stop(f"Debian's {name} cannot be fetched (is `apt-get update` needed?):\n{done.stdout[-800:]}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    (root / ".ready").touch()
