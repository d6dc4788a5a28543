"""A stand-in for the Hub: a server here that keeps repositories in memory, asked by huggingface_hub itself."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants


@dataclass
class Hub:
    """Repositories by name, and what was asked of them."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def commit(self, repo: str) -> str:
        """Return the hash of what a repository holds: huggingface_hub keeps what has the same one."""
        return hashlib.sha1(repr(sorted(self.files[repo].items())).encode()).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, which huggingface_hub takes for the Hub, with an empty cache; it lets in who has a token."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, content=b"", **headers):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def json(self, content, status=200):
            self.answer(status, json.dumps(content).encode(), Content_Type="application/json")

        def do_GET(self):
            place = re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/([\w.-]+)/(.+)", self.path)
            if place is None or place[1] not in found.files:
                return self.answer(404, X_Error_Code="RepoNotFound")
            commit = found.commit(place[1])
            if place[2] not in ("main", commit):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            content = found.files[place[1]].get(place[3])
            if content is None:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            etag = hashlib.sha256(content).hexdigest()
            return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def do_POST(self):
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.tokens.append(self.headers.get("Authorization", ""))
            if not found.tokens[-1]:
                return self.json({"error": "log in"}, 401)
            if self.path == "/api/validate-yaml":
                return self.json({"errors": [], "warnings": []})
            if self.path == "/api/repos/create":
                asked = json.loads(sent)
                repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
                if repo in found.files:
                    return self.json({"url": f"{found.address}/{repo}"}, 409)
                found.files[repo] = {}
                found.private[repo] = asked.get("private") is True or asked.get("visibility") == "private"
                return self.json({"url": f"{found.address}/{repo}"})
            repo, verb = re.match(r"/api/models/([\w-]+/[\w-]+)/(preupload|commit)/", self.path).groups()
            if verb == "preupload":
                files = json.loads(sent)["files"]
                modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
                return self.json({"files": modes})
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    found.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = found.commit(repo)
            return self.json({"commitUrl": f"{found.address}/{repo}/commit/{commit}", "commitOid": commit})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    url = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield found
    server.shutdown()
    server.server_close()
