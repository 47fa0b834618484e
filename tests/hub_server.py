"""A local fake of the model hub: repositories in memory, with the routes that the hub's client uses."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


class HubServer:
    """Repositories as {name: {revision: {path: bytes}}}, and a log of all requests."""

    def __init__(self):
        self.repositories = {}
        self.asked = []
        self.token = None
        """The only token that may write, if one is set."""

    def files(self, name, revision="main"):
        branches = self.repositories.get(name, {})
        found = branches.get(revision)
        return found or next((one for one in branches.values() if self.commit(one) == revision), None)

    @staticmethod
    def commit(files):
        content = b"".join(
            path.encode() + hashlib.sha256(data).digest() for path, data in sorted(files.items())
        )
        return hashlib.sha1(content).hexdigest()


def handler_of(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, content=b"", **headers):
            body = json.dumps(content).encode() if isinstance(content, dict) else content
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def missing(self):
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            hub.asked.append((self.command, path))
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                files = hub.files(found[1], found[2] or "main")
                if files is None:
                    return self.missing()
                listed = [{"rfilename": name} for name in files]
                return self.answer(200, {"id": found[1], "sha": hub.commit(files), "siblings": listed})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                files = hub.files(found[1], found[2])
                rows = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                return self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            files = hub.files(found[1], found[2]) if found else None
            if files is None:
                return self.missing()
            if found[3] not in files:
                return self.answer(404, X_Error_Code="EntryNotFound")
            data = files[found[3]]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self.answer(200, data, ETag=etag, X_Repo_Commit=hub.commit(files))

        def do_POST(self):
            path = unquote(urlparse(self.path).path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.asked.append((self.command, path))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.answer(401, {"error": "Invalid username or password."})
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = (
                    f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                )
                hub.repositories.setdefault(name, {"main": {}})
                return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}"})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
                branches = hub.repositories[found[1]]
                branches.setdefault(found[2], dict(branches["main"]))
                return self.answer(201, {})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
                modes = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": modes})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
                files = hub.repositories[found[1]][found[2]]
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                commit = hub.commit(files)
                url = f"http://{self.headers['Host']}/{found[1]}/commit/{commit}"
                return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})
            return self.missing()

    return Handler


@contextmanager
def hub_server():
    """Serve an empty hub; yields it and its address."""
    hub = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
