"""A real HTTP server for files that can be slow, cut off, refuse, or play the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from manifests.errors import WeightsError
from stages.weights.resolve import get_weights

COMMIT = "a" * 40

#: What the server offers for weights: 1 MiB.
WEIGHTS = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

#: The Hub's repository of a diffusers pipeline.
HUB_FILES = {
    "model_index.json": b"{}",
    "flux.safetensors": b"the whole in one file",
    "README.md": b"# Fill",
    "vae/net.safetensors": WEIGHTS,
    "vae/net.bin": b"pickle",
    "scheduler/config.json": b"{}",
}


@dataclass
class Web:
    """What the server offers, and what it was asked for.

    Attributes:
        files: by path, e.g. ``/model.pt``.
        gets: paths of the GET requests so far.
        cut: so many more answers end after half of their bytes.
        seconds: how long an answer takes.
        refuse: ``{path: (status, X-Error-Code)}``.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    gets: list[str] = field(default_factory=list)
    cut: int = 0
    seconds: float = 0.0
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)

    def offer_repo(self, repo: str, files: dict[str, bytes]) -> None:
        """Answer for a repository as the Hub's API does, as far as downloads need it.

        Weights are kept in LFS, with their sha256; other files in Git, as blobs.
        """
        siblings, tree = [], []
        for name, data in files.items():
            blob = b"blob %d\0%b" % (len(data), data)
            kept: dict[str, object] = {
                "size": len(data),
                "oid": hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
            }
            if name.endswith((".safetensors", ".bin")):
                sha256 = hashlib.sha256(data).hexdigest()
                kept["lfs"] = {"size": len(data), "oid": sha256, "pointerSize": 130}
            siblings.append({"rfilename": name, "size": len(data)})
            tree.append({"type": "file", "path": name} | kept)
            self.files[f"/{repo}/resolve/{COMMIT}/{name}"] = data
        self.files[f"/api/models/{repo}/tree/{COMMIT}"] = json.dumps(tree).encode()
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "siblings": siblings}
        for end in ("", "/revision/main", f"/revision/{COMMIT}"):
            self.files[f"/api/models/{repo}{end}"] = json.dumps(info).encode()

    def downloads(self, path: str) -> int:
        """How often a file was asked for."""
        return self.gets.count(path)


@contextmanager
def serving() -> Iterator[Web]:
    """The server, for as long as the block lasts."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            web.gets.append(self.path.partition("?")[0])
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            status, code = web.refuse.get(path, (200 if path in web.files else 404, ""))
            data = web.files[path] if status == 200 else b"refused"
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            if status == 200:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            if with_body:
                self._send(data)

        def _send(self, data: bytes) -> None:
            half = len(data) // 2
            self.wfile.write(data[:half])
            self.wfile.flush()
            time.sleep(web.seconds)
            if web.cut:
                web.cut -= 1
                self.close_connection = True
                return
            self.wfile.write(data[half:])

        def log_message(self, *args: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # the client was killed

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_list(path: Path, url: str) -> None:
    """Write a list of models, all of them on this server."""
    at = [f"{url}/lama.pt"]
    entries: dict[str, dict[str, object]] = {
        "big-lama": {"sources": at, "sha256": SHA256, "env": "LAMA_MODEL"},
        "mirrored": {"sources": [f"{url}/gone.pt", *at], "sha256": SHA256},
        "exchanged": {"sources": at, "sha256": "0" * 64},
        "gone": {"sources": [f"{url}/gone.pt"], "sha256": "1" * 64},
        "hub": {"sources": ["hf://shop/fill"], "format": "diffusers", "gated": True},
        "hub-commit": {"sources": [f"hf://shop/fill@{COMMIT}"], "format": "diffusers"},
        "not-to-sell": {
            "sources": at,
            "sha256": SHA256,
            "licence": "CC BY-NC-SA 4.0",
            "commercial": False,
        },
    }
    usual: dict[str, object] = {
        "kind": "remove",
        "format": "torchscript",
        "title": "of the tests",
        "page": "https://huggingface.co/shop/fill",
        "licence": "Apache-2.0",
        "licence_url": "https://example.org/licence",
        "commercial": True,
    }
    lines = []
    for name, entry in entries.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in (usual | entry).items()]
    path.write_text("\n".join(lines))


def error_of(ref: str) -> WeightsError:
    """The error with which these weights are refused."""
    with pytest.raises(WeightsError) as caught:
        get_weights(ref)
    return caught.value
