"""Fetching against a server on this machine that knows ranges, breaks off, changes its files and lies."""

import contextlib
import dataclasses
import hashlib
import http.server
import os
import socket
import sys
import threading
import time

import pytest

from neural import CheckpointError, checkpoints
from neural.checkpoints import hub, presets
from neural.checkpoints.presets import PRESETS, Published, cache_folder, locate, published

NAME = "edm2-img512-xs-2147483-0.045"


@dataclasses.dataclass
class Site:
    """What the server has, how it behaves, and what it was asked."""

    address: str = ""
    files: dict = dataclasses.field(default_factory=dict)
    breaks_after: int | None = None
    ranges: bool = True
    validators: bool = True
    length: bool = True
    lies: str = ""
    pause: float = 0.0
    asked: list = dataclasses.field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        asked = self.headers.get("Range")
        site.asked.append(asked)
        contents = site.files.get(self.path.lstrip("/"))
        if contents is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(contents).hexdigest()}"'
        if asked and site.lies == "416":
            self.send_error(416)
            return
        start = 0
        if asked and site.ranges and self.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            total, begin = len(contents) + (site.lies == "total"), start + (site.lies == "start")
            self.send_header("Content-Range", f"bytes {begin}-{len(contents) - 1}/{total}")
        else:
            self.send_response(200)
        if site.validators:
            self.send_header("ETag", '"another"' if asked and site.lies == "tag" else tag)
        if site.length:
            self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        end = len(contents) if site.breaks_after is None else start + site.breaks_after
        if not site.pause:
            self.wfile.write(contents[start:end])
            return
        with contextlib.suppress(OSError):  # of a client that has given up
            for at in range(start, end):
                self.wfile.write(contents[at : at + 1])
                time.sleep(site.pause)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = Site(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.site
        server.shutdown()
        thread.join()


@pytest.fixture
def file(site, data):
    site.files["a.pkl"] = (data / "tiny.pkl").read_bytes()
    return Published("a.pkl", f"{site.address}a.pkl")


def names():
    return sorted(path.name for path in cache_folder().iterdir())


def interrupt(site, file):
    """Fetch half a megabyte of the file, as far as an unreliable server sends it."""
    site.breaks_after = 500_000
    with pytest.raises(ValueError, match="interrupted"):
        hub.fetch(file)
    site.breaks_after = None


def test_a_file_is_fetched_recorded_and_then_left_alone(site, file):
    seen = []
    path = hub.fetch(file, lambda done, total: seen.append((done, total)))
    contents = site.files["a.pkl"]
    assert path == cache_folder() / "a.pkl"
    assert path.read_bytes() == contents
    assert path.with_name("a.pkl.sha256").read_text() == f"{hashlib.sha256(contents).hexdigest()}  a.pkl\n"
    assert names() == ["a.pkl", "a.pkl.sha256"]
    assert seen[0] == (0, len(contents))
    assert seen[-1] == (len(contents), len(contents))
    assert hub.fetch(file) == path
    assert site.asked == [None]


def test_an_interrupted_transfer_goes_on(site, file):
    size = len(site.files["a.pkl"])
    site.breaks_after = 500_000
    for done in (500_000, 1_000_000):
        with pytest.raises(
            ValueError, match=f"interrupted after {done} of {size} bytes; run the command again"
        ):
            hub.fetch(file)
        assert names() == ["a.pkl.part", "a.pkl.part.json"]
    site.breaks_after = None
    assert hub.fetch(file).read_bytes() == site.files["a.pkl"]
    assert site.asked == [None, "bytes=500000-", "bytes=1000000-"]
    assert names() == ["a.pkl", "a.pkl.sha256"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(site, file, data):
    interrupt(site, file)
    site.files["a.pkl"] = (data / "tiny-uncond.pkl").read_bytes()
    assert hub.fetch(file).read_bytes() == site.files["a.pkl"]
    assert site.asked == [None, "bytes=500000-"]


@pytest.mark.parametrize("missing", ["ranges", "validators", "length"])
def test_servers_that_cannot_continue_begin_anew(missing, site, file):
    setattr(site, missing, False)
    site.breaks_after = 500_000
    with pytest.raises(ValueError, match=r"interrupted|cut short"):
        hub.fetch(file)
    site.breaks_after = None
    assert hub.fetch(file).read_bytes() == site.files["a.pkl"]


@pytest.mark.parametrize("lie", ["tag", "total", "start", "416"])
def test_a_continuation_that_is_not_of_the_same_file_begins_anew(lie, site, file):
    interrupt(site, file)
    site.lies = lie
    assert hub.fetch(file).read_bytes() == site.files["a.pkl"]
    assert site.asked == [None, "bytes=500000-", None]
    assert names() == ["a.pkl", "a.pkl.sha256"]


def test_a_server_that_sends_a_byte_now_and_then(site, file, monkeypatch):
    monkeypatch.setattr(hub, "GRACE", 0.1)
    site.pause = 0.01
    with pytest.raises(ValueError, match="less than 1000 bytes a second"):
        hub.fetch(file)
    # What has come stays.
    assert names() == ["a.pkl.part", "a.pkl.part.json"]


def test_a_server_that_never_answers(site, file, monkeypatch):
    monkeypatch.setattr(hub, "OPENING", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.pkl"
        with pytest.raises(ValueError, match=r"no complete answer within 0[.]1 seconds"):
            hub.fetch(Published("a.pkl", address))
        silent.accept()[0].close()


def test_a_complete_part_needs_no_server(site, file, monkeypatch):
    def interrupted(part):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(hub, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.fetch(file)
    assert names() == ["a.pkl.part", "a.pkl.part.json"]
    hub.fetch(file)
    assert site.asked == [None]


@pytest.mark.parametrize(
    "facts", ["", "[]", "{", '{"address": 1}', '{"address": "x", "validator": "y", "total": 9}']
)
def test_a_part_that_nothing_is_known_of_is_dropped(facts, site, file):
    cache_folder().mkdir()
    (cache_folder() / "a.pkl.part").write_bytes(b"garbage")
    (cache_folder() / "a.pkl.part.json").write_text(facts)
    assert hub.fetch(file).read_bytes() == site.files["a.pkl"]
    assert site.asked == [None]


def test_what_is_no_checkpoint_is_not_kept(site, file):
    site.files["a.pkl"] = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match=r"a\.pkl\.part: this is an HTML page"):
        hub.fetch(file)
    assert names() == []


def test_a_changed_file_is_noticed(file):
    path = hub.fetch(file)
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1  # a value: the structure is as good as before
    path.write_bytes(changed)
    for check in (hub.verify, hub.record):
        with pytest.raises(CheckpointError, match=r"a\.pkl has changed since it was fetched: its sha256 is"):
            check(path)
    with pytest.raises(CheckpointError, match="remove it and fetch it again"):
        hub.fetch(file)


def test_a_record_that_is_none_is_noticed(file):
    path = hub.fetch(file)
    path.with_name("a.pkl.sha256").write_text("0123\n")
    with pytest.raises(CheckpointError, match=r"a\.pkl\.sha256 holds no sha256; remove it"):
        hub.verify(path)


def test_a_file_put_there_by_hand_is_read_and_recorded(site, file, data):
    cache_folder().mkdir()
    path = cache_folder() / "a.pkl"
    path.write_bytes(b"\x80\x04}.")
    with pytest.raises(CheckpointError, match="the file holds no tensors"):
        hub.fetch(file)
    path.write_bytes(site.files["a.pkl"])
    hub.fetch(file)
    assert hub.verify(path) == hashlib.sha256(site.files["a.pkl"]).hexdigest()
    assert site.asked == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.pkl", "{site}missing.pkl"])
def test_without_the_server_a_person_is_told_what_to_do(address, site):
    file = Published("a.pkl", address.format(site=site.address))
    with pytest.raises(
        ValueError, match=r"cannot fetch http.*a machine without network, get a\.pkl elsewhere and put"
    ):
        hub.fetch(file)
    assert names() == []


def test_only_one_process_fetches_at_a_time(site, file):
    fcntl = pytest.importorskip("fcntl")
    cache_folder().mkdir()
    other = os.open(cache_folder(), os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match=r"another process is fetching into .*; wait until it is done"):
        hub.fetch(file)
    os.close(other)
    assert site.asked == []
    hub.fetch(file)
    assert names() == ["a.pkl", "a.pkl.sha256"]


def test_a_part_that_points_elsewhere_is_not_written_through(site, file, tmp_path):
    interrupt(site, file)
    part, victim = cache_folder() / "a.pkl.part", tmp_path / "victim"
    part.unlink()
    victim.write_bytes(b"precious")
    part.symlink_to(victim)
    with pytest.raises(ValueError, match=r"cannot write .*a\.pkl\.part"):
        hub.fetch(file)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("length", [True, False])
def test_a_server_that_never_ends(length, site, file, monkeypatch):
    monkeypatch.setattr(hub, "MAX_BYTES", 1_200_000)
    site.length = length
    with pytest.raises(
        ValueError, match=r"a\.pkl sends more than 1200000 bytes, which is no network; given up"
    ):
        hub.fetch(file)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "9" * 5000, "x"])
def test_lengths_that_are_none(text):
    assert hub._number(text) is None


def test_redirections_stay_encrypted():
    request = hub.urllib.request.Request("https://example.org/a")
    follow = hub._NoDowngrade().redirect_request
    with pytest.raises(hub.urllib.error.URLError, match="not encrypted"):
        follow(request, None, 302, "", {}, "http://example.org/a")
    assert follow(request, None, 302, "", {}, "https://example.org/b").full_url == "https://example.org/b"


def test_a_folder_that_cannot_be_made(file, monkeypatch, tmp_path):
    (tmp_path / "taken").touch()
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path / "taken"))
    with pytest.raises(ValueError, match=r"cannot write .*a\.pkl\.part"):
        hub.fetch(file)


# Names and places.


def test_the_preset_is_the_pair_of_length_0_045():
    assert [file.name for file in PRESETS["edm2-xs"].files] == [
        "edm2-img512-xs-2147483-0.045.pkl",
        "edm2-img512-xs-uncond-2147483-0.045.pkl",
    ]
    base = "https://nvlabs-fi-cdn.nvidia.com/edm2/posthoc-reconstructions/"
    assert all(file.address == base + file.name for file in PRESETS["edm2-xs"].files)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.pkl", "edm2-img64-xxl-uncond-0939524-0.150"])
def test_official_names(name):
    (file,) = published(name)
    assert file.address.endswith(f"/posthoc-reconstructions/{name.removesuffix('.pkl')}.pkl")


@pytest.mark.parametrize(
    "name", ["edm2", "edm2-img512-xs-2147483-0.45", "../edm2-img512-xs-2147483-0.045", ""]
)
def test_other_names_are_refused(name):
    assert published(name) is None
    with pytest.raises(ValueError, match=f"NAME must be one of {', '.join(PRESETS)}, or an official name"):
        presets.published_files(name)


@pytest.mark.skipif(sys.platform != "linux", reason="the platform's own place for such files")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "{tmp}/home"}, "home/.cache/speciation"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/speciation"),
        ({"SPECIATION_CACHE": "{tmp}/mine", "XDG_CACHE_HOME": "/xdg"}, "mine"),
    ],
)
def test_the_cache_is_where_the_platform_wants_it(variables, expected, monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "SPECIATION_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert cache_folder() == tmp_path / expected


def test_locating(monkeypatch, tmp_path):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError, match="no such file: 'nowhere'; nor is it a preset"):
        locate("nowhere")
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(CheckpointError, match=r"no such file: '(xxx|a.x00b).*; nor is it a preset"):
            locate(name)
        with pytest.raises(CheckpointError, match=r"cannot read xxx|no such file: 'a.x00b'"):
            checkpoints.read(name)
    path = tmp_path / f"{NAME}.pkl"
    with pytest.raises(CheckpointError, match=f"run `speciation weights fetch edm2-xs`, or put .* at {path}"):
        locate("edm2-xs")
    path.touch()
    assert locate(NAME) == locate(path) == (path,)
    with pytest.raises(
        CheckpointError, match=r"edm2-img512-xs-uncond-2147483-0\.045\.pkl is not on this machine"
    ):
        locate("edm2-xs")
    sibling = tmp_path / "edm2-img512-xs-uncond-2147483-0.045.pkl"
    assert presets.sibling(path) is None
    sibling.touch()
    assert locate("edm2-xs") == (path, sibling)
    assert presets.sibling(path) == sibling
    assert presets.sibling(sibling) is None
