"""Fetching a repository by huggingface_hub, from a stand-in of the hub on this machine."""

import dataclasses
import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")

from neural.checkpoints import CheckpointError, hub, presets
from neural.checkpoints.hugging_face import fetch_repository
from neural.stable_diffusion.loading import load_vae
from paper_figures import cli
from tests.neural.stable_diffusion import folders

COMMIT, OTHER = "31f26fdeee1355a5c34592e401dd41e45d25a493", "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers ``/OWNER/NAME/resolve/REVISION/FILE`` as the hub does; a file may break off once."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        site = self.server.site
        site.asked.append((self.command, self.path, self.headers.get("Range")))
        _, owner, name, what, revision, file = self.path.split("?")[0].split("/", 5)
        held = site.files.get((revision, file)) if (owner, name, what) == (*site.name, "resolve") else None
        if held is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        span = self.headers.get("Range")
        start = int(span.removeprefix("bytes=").split("-")[0]) if span and body else 0
        self.send_response(206 if start else 200)
        digest = site.lies.get(file) or hashlib.sha256(held).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", revision)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(held) - 1}/{len(held)}")
        self.send_header("Content-Length", str(len(held) - start))
        self.end_headers()
        if body:
            cut = site.breaks.pop(file, None)
            self.wfile.write(held[start : cut if cut is not None else len(held)])
            if cut is not None:
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True

    def log_message(self, *args):
        pass


class Site:
    def __init__(self, name, files):
        self.name, self.files, self.asked = name.split("/"), files, []
        self.breaks, self.lies = {}, {}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    folder = folders.write_folder(tmp_path / "published") / "vae"
    files = {(COMMIT, path.name): path.read_bytes() for path in folder.iterdir()}
    found = Site(presets.PRESETS["sd-vae-ft-mse"].repository.name, files)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.site = found
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    # The library reads its address when it is imported; it takes another one as an argument.
    url = huggingface_hub.hf_hub_url
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_url", lambda *args, **options: url(*args, endpoint=address, **options)
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


REPOSITORY = presets.PRESETS["sd-vae-ft-mse"].repository


def test_from_the_hub_to_the_network(site, cache, capsys):
    with pytest.raises(CheckpointError, match="run `speciation weights fetch sd-vae-ft-mse`"):
        load_vae()
    assert cli.run(["weights", "fetch", "sd-vae-ft-mse"]) == 0
    assert f"{cache / 'sd-vae-ft-mse'} (stabilityai/sd-vae-ft-mse at {COMMIT})" in capsys.readouterr().out
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in site.asked)
    vae = load_vae()
    np.testing.assert_array_equal(vae.weights["quant_conv.bias"], folders.tensors("vae")["quant_conv.bias"])
    # Once more: what is there is held to its record, and nobody is asked.
    asked = len(site.asked)
    fetch_repository(REPOSITORY)
    assert len(site.asked) == asked
    assert cli.run(["weights", "check", "sd-vae-ft-mse"]) == 0
    out = capsys.readouterr().out
    assert "the autoencoder of Stable Diffusion, widths (16, 32)" in out
    assert "(as recorded)" in out


def test_an_interrupted_transfer_goes_on(site, cache):
    site.breaks = {"diffusion_pytorch_model.safetensors": 20_000}
    with pytest.raises(
        ValueError, match=r"was interrupted after 20000 of .*; run the command again to go on"
    ):
        fetch_repository(REPOSITORY)
    fetch_repository(REPOSITORY)
    ranges = [span for verb, path, span in site.asked if verb == "GET" and path.endswith(".safetensors")]
    assert ranges == [None, "bytes=20000-"]
    load_vae()


def test_what_is_not_what_the_hub_said_is_not_kept(site, cache):
    site.lies = {"diffusion_pytorch_model.safetensors": "f" * 64}
    with pytest.raises(CheckpointError, match=r"has the sha256 .*published is ffffffffffffffff"):
        fetch_repository(REPOSITORY)
    assert REPOSITORY.missing() == ["diffusion_pytorch_model.safetensors"]


def test_a_file_that_has_changed_is_noticed(site, cache):
    fetch_repository(REPOSITORY)
    path = REPOSITORY.folder / "diffusion_pytorch_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="has changed since it was fetched"):
        fetch_repository(REPOSITORY)


def test_another_revision(site, cache):
    fetch_repository(REPOSITORY)
    changed = folders.tensors("vae")
    changed["quant_conv.bias"] = changed["quant_conv.bias"] + 1
    import safetensors.numpy

    site.files |= {(OTHER, file): held for (_, file), held in list(site.files.items())}
    site.files[OTHER, "diffusion_pytorch_model.safetensors"] = safetensors.numpy.save(changed)
    fetch_repository(REPOSITORY, OTHER)
    np.testing.assert_array_equal(load_vae().weights["quant_conv.bias"], changed["quant_conv.bias"])
    assert hub.recorded(REPOSITORY.folder / "diffusion_pytorch_model.safetensors")


def test_what_is_no_checkpoint_is_not_kept(site, cache):
    site.files[COMMIT, "diffusion_pytorch_model.safetensors"] = b"<html>not found</html>"
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.safetensors"):
        fetch_repository(REPOSITORY)
    assert REPOSITORY.missing() == ["diffusion_pytorch_model.safetensors"]


def test_errors_are_one_line_with_the_way_out(site, cache, capsys, monkeypatch):
    with pytest.raises(
        ValueError, match=r"cannot fetch missing\.json of stabilityai/sd-vae-ft-mse: .*put the files of"
    ) as caught:
        fetch_repository(dataclasses.replace(REPOSITORY, files=("missing.json",)))
    assert "\n" not in str(caught.value)
    assert cli.run(["weights", "fetch", "edm2-xs", "--revision", "main"]) == 2
    assert "only repositories have revisions" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="pip install huggingface_hub"):
        fetch_repository(REPOSITORY)
