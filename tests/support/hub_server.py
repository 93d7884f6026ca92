"""A stand-in of the Hugging Face Hub on this machine: one commit of small files per repository."""

import base64
import hashlib
import json
import re

from file_server import Server


class Hub(Server):
    """`repos`: name -> revision -> file -> bytes; every commit is a revision, `main` the last."""

    def __init__(self, token="hf_good"):
        super().__init__()
        self.repos, self.token, self.sent = {}, token, []

    def answer(self, handler, method):
        """Whether the path is one of the Hub's; then it is answered."""
        path = handler.path.partition("?")[0]
        for pattern, act in (
            (r"/api/repos/create", self._create),
            (r"/api/models/([\w.-]+/[\w.-]+)/preupload/([\w.-]+)", self._preupload),
            (r"/api/models/([\w.-]+/[\w.-]+)/commit/([\w.-]+)", self._commit),
            (r"/api/models/([\w.-]+/[\w.-]+)/branch/([\w.-]+)", self._branch),
            (r"/api/models/([\w.-]+/[\w.-]+)/revision/([\w.-]+)", self._info),
            (r"/api/models/([\w.-]+/[\w.-]+)/tree/([\w.-]+)", self._tree),
            (r"/api/models/([\w.-]+/[\w.-]+)", lambda h, n: self._info(h, n, "main")),
            (r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)", self._file),
            (r"/api/validate-yaml", lambda h: reply(h, {"errors": [], "warnings": []})),
        ):
            if match := re.fullmatch(pattern, path):
                self.asked.append((method, path))
                allowed = handler.headers.get("Authorization") == f"Bearer {self.token}"
                if method == "POST" and not allowed:
                    reply(handler, {"error": "Invalid token"}, 401)
                else:
                    act(handler, *match.groups())
                return True
        return False

    def _create(self, handler):
        wanted = json.loads(body(handler))
        name = f"{wanted['organization']}/{wanted['name']}"
        self.repos.setdefault(name, {"main": {}})
        reply(handler, {"url": f"{self.url}/{name}", "name": name, "id": name})

    def _branch(self, handler, name, revision):
        body(handler)
        self.repos[name].setdefault(revision, {})
        reply(handler, {})

    def _preupload(self, handler, name, revision):
        files = json.loads(body(handler))["files"]
        regular = {"uploadMode": "regular", "shouldIgnore": False}
        reply(handler, {"files": [{"path": one["path"], **regular} for one in files]})

    def _commit(self, handler, name, revision):
        lines = [json.loads(line) for line in body(handler).splitlines()]
        files = dict(self.repos[name][revision])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repos[name][commit] = self.repos[name][revision] = files
        url = f"{self.url}/{name}/commit/{commit}"
        reply(handler, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def commit_of(self, name, revision):
        """The commit that a revision is."""
        revisions = self.repos.get(name, {})
        if revision not in revisions:
            return None
        same = [key for key, files in revisions.items() if files == revisions[revision]]
        return max(same, key=len)  # a commit's number is longer than a branch's name

    def _info(self, handler, name, revision):
        commit = self.commit_of(name, revision)
        if commit is None:
            return missing(handler, name in self.repos)
        files = [{"rfilename": file} for file in self.repos[name][commit]]
        reply(handler, {"id": name, "sha": commit, "siblings": files, "private": False})

    def _tree(self, handler, name, revision):
        commit = self.commit_of(name, revision)
        if commit is None:
            return missing(handler, name in self.repos)
        items = self.repos[name][commit].items()
        rows = [{"type": "file", "path": p, "size": len(d), "oid": oid(d)} for p, d in items]
        reply(handler, rows)

    def _file(self, handler, name, revision, file):
        commit = self.commit_of(name, revision)
        data = self.repos.get(name, {}).get(commit, {}).get(file)
        if data is None:
            return missing(handler, name in self.repos)
        handler.send_response(200)
        handler.send_header("ETag", f'"{oid(data)}"')
        handler.send_header("X-Repo-Commit", commit)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)


def oid(data):
    return hashlib.sha1(data).hexdigest()


def body(handler):
    """What was sent, in one piece or in chunks."""
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    data = b""
    while size := int(handler.rfile.readline().strip(), 16):
        data += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return data


def missing(handler, known):
    code = "EntryNotFound" if known else "RepoNotFound"
    reply(handler, {"error": code}, 404, {"X-Error-Code": code})


def reply(handler, content, status=200, headers=None):
    data = json.dumps(content).encode()
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)
