"""peers.py - other people's servers beside ours: Node's (llhttp) and nginx, on ports of their own on
the loopback. Each is a context; `address` answers 200 to whatever it takes as a request with a whole
body, and `name` says which version it is. nginx stands in front of our server as well (`front`).
"""
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def program(name):
    return shutil.which(name, path=PATH)


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    def __enter__(self):
        self.process = subprocess.Popen(["node", os.path.join(HERE, "node.js")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.address = ("127.0.0.1", int(self.process.stdout.readline()))
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        self.name = "Node " + version.strip().lstrip("v")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


# The first server reads the whole body, which is what it is asked about, before it asks the second,
# which says yes. The third is what stands before ours: bodies pass as they come, connections are kept.
NGINX = """daemon off;
worker_processes 2;
{user}
pid {folder}/pid;
error_log {folder}/error crit;
events {{ worker_connections 1024; }}
http {{
  {temporary}
  access_log off;
  log_format passed '$status $upstream_addr';
  client_max_body_size 0;
  server_tokens off;
  proxy_ignore_client_abort on;
  proxy_next_upstream off;
  merge_slashes off;
  server {{ listen 127.0.0.1:{origin}; location / {{ proxy_pass http://127.0.0.1:{yes}; }} }}
  server {{ listen 127.0.0.1:{yes}; location / {{ return 200; }} }}
  upstream ours {{ server {ours}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{front};
    access_log {folder}/passed passed;
    proxy_request_buffering off;
    location / {{ proxy_pass http://ours; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Nginx:
    """`ours`: the address of the server that `front` stands before."""

    def __init__(self, ours):
        self.ours = ours

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ascribe-nginx-")
        origin, yes, front = free_port(), free_port(), free_port()
        with open(self.folder + "/nginx.conf", "w", encoding="ascii") as f:
            f.write(NGINX.format(
                folder=self.folder, origin=origin, yes=yes, front=front, ours="%s:%d" % self.ours,
                user="user root;" if os.geteuid() == 0 else "",
                temporary=" ".join(f"{n}_temp_path {self.folder}/{n};" for n in
                                   ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))))
        nginx = program("nginx")
        self.process = subprocess.Popen(
            [nginx, "-p", self.folder, "-c", self.folder + "/nginx.conf", "-e", self.folder + "/error"],
            stdin=subprocess.DEVNULL)
        self.address, self.front = ("127.0.0.1", origin), ("127.0.0.1", front)
        said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        self.name = "nginx " + re.search(r"nginx/([\d.]+)", said).group(1)
        end = time.monotonic() + 20
        while True:
            with contextlib.closing(socket.socket()) as s:
                if s.connect_ex(self.front) == 0:
                    return self
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError("nginx did not start")
            time.sleep(0.02)

    def passed_on(self):
        """How many requests `front` has handed to our server and is done with."""
        with open(self.folder + "/passed", encoding="ascii") as f:
            return sum(line.split()[1] != "-" for line in f)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)
