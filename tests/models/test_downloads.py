"""Downloads from a server of our own: what is broken leaves nothing behind, and the next call works."""

import contextlib
import http.server
import io
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from safetensors.torch import save
from torch import nn

from plainvision.models import downloads
from plainvision.models.loading import load_checkpoint

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    answer: Answer

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):  # who asked may have gone
            type(self).answer(self)

    def log_message(self, *_: object) -> None:
        pass


def sends(body: bytes, *, length: int | str | None = None, status: int = 200, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1000))


def silent(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.rfile.read(1)  # until the other side gives up


WEIGHTS = save(nn.Linear(3, 2).state_dict())


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save(nn.Linear(3, 2).state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def address(tmp_path, monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(downloads, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(downloads, "_MOST_BYTES", 100_000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/weights.pth"
        finally:
            server.shutdown()
            thread.join()


def cached(tmp_path) -> list[str]:
    return [file.name for file in (tmp_path / "hub").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (sends(WEIGHTS[:100], length=len(WEIGHTS)), r"broke off after 100 of \d+ bytes"),
        (sends(WEIGHTS[:100]), r"what came from http.* is of no use: it is not a whole safetensors file"),
        (sends(pickled()[:300]), r"is of no use: it is not a whole PyTorch file"),
        (sends(b""), r"is of no use: it is empty"),
        (sends(b"<html>Please sign in</html>"), r"is of no use: it is a web page, not weights"),
        (
            sends(b"version https://git-lfs.github.com/spec/v1\n"),
            r"is of no use: it is the pointer of a file in Git LFS",
        ),
        (sends(WEIGHTS, length="many"), r"cannot download http"),
        (sends(WEIGHTS, length=-5), r"cannot download http"),
        (sends(b"", status=404), r"cannot download http.*404"),
        (sends(b"", status=503), r"cannot download http.*503"),
        (sends(b"", status=302, Location="file:///etc/hostname"), r"cannot download http.*302|file"),
        (sends(b"", status=302, Location="ftp://127.0.0.1/weights.pth"), r"cannot download http.*ftp"),
        (endless, r"cannot download http.*too long, \d"),
        (silent, r"cannot download http.*timed out"),
    ],
)
def test_what_is_broken_leaves_nothing_and_the_next_call_works(address, tmp_path, monkeypatch, answer, message):
    monkeypatch.setattr(Handler, "answer", answer, raising=False)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(nn.Linear(3, 2), address)
    assert not cached(tmp_path)
    monkeypatch.setattr(Handler, "answer", sends(WEIGHTS), raising=False)
    load_checkpoint(nn.Linear(3, 2), address)
    assert cached(tmp_path) == ["weights.pth"]
    monkeypatch.setattr(Handler, "answer", sends(b"", status=500), raising=False)
    load_checkpoint(nn.Linear(3, 2), address)  # asks nobody


def test_a_broken_file_that_an_older_version_kept_is_fetched_again(address, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "answer", sends(WEIGHTS), raising=False)
    load_checkpoint(nn.Linear(3, 2), address)
    (kept,) = (tmp_path / "hub").rglob("weights.pth")
    kept.write_bytes(WEIGHTS[:50])
    load_checkpoint(nn.Linear(3, 2), address)
    assert kept.read_bytes() == WEIGHTS


def test_a_body_that_hardly_comes_is_given_up(address, monkeypatch):
    monkeypatch.setattr(downloads, "_SILENT_SECONDS", 5.0)
    clock = iter(range(0, 10**9, 60))
    monkeypatch.setattr(downloads, "monotonic", lambda: next(clock))
    monkeypatch.setattr(Handler, "answer", sends(WEIGHTS), raising=False)
    with pytest.raises(ValueError, match=r"too slow, \d+ bytes in \d+ s so far"):
        load_checkpoint(nn.Linear(3, 2), address)


def test_a_garbled_status_line_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    class Garbler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"\x00\xff garbage\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Garbler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(ValueError, match=r"cannot download http.*Check the address"):
                load_checkpoint(nn.Linear(3, 2), f"http://127.0.0.1:{server.server_address[1]}/weights.pth")
        finally:
            server.shutdown()
            thread.join()
    assert not cached(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///weights.pth",
        "http://:80/weights.pth",
        "http://127.0.0.1:port/weights.pth",
        "http://127.0.0.1:99999/weights.pth",
        "http://127.0.0.1:0/weights.pth",
        "http://127.0.0.1:1/weights.pth",
        "http://127.0.0.1: /weights.pth",
        "http://[::1/weights.pth",
        "http://a b/weights.pth",
        "HTTP://127.0.0.1:1/weights.pth",
        "http://" + "x" * 300 + "/weights.pth",
    ],
)
def test_an_address_that_cannot_be_is_one_error(tmp_path, monkeypatch, url):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match=r"cannot download (http|HTTP):.*Check the address"):
        load_checkpoint(nn.Linear(3, 2), url)
    assert not cached(tmp_path)
