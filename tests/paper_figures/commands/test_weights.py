"""``speciation weights`` from end to end: the tiny pair in the place of the published one, through the same code."""

import dataclasses
import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest

from neural import load_edm2, read_torch_pickle
from neural.checkpoints import presets, read_safetensors, write_safetensors
from paper_figures import cli
from tests.neural.checkpoints import forge
from tests.neural.checkpoints.test_hub import Handler, Site

OFFICIAL = {
    "tiny": "edm2-img512-xs-2147483-0.045.pkl",
    "tiny-uncond": "edm2-img512-xs-uncond-2147483-0.045.pkl",
}


@pytest.fixture
def data(request):
    return request.config.rootpath / "tests" / "neural" / "data" / "edm2"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def site(cache, data, monkeypatch):
    """A server that has the tiny pair under the published names, and presets that point to it."""
    files = {official: (data / f"{tiny}.pkl").read_bytes() for tiny, official in OFFICIAL.items()}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = Site(f"http://127.0.0.1:{server.server_port}/", files)
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        preset = presets.PRESETS["edm2-xs"]
        moved = tuple(
            dataclasses.replace(file, address=server.site.address + file.name) for file in preset.files
        )
        monkeypatch.setitem(presets.PRESETS, "edm2-xs", dataclasses.replace(preset, files=moved))
        yield server.site
        server.shutdown()
        thread.join()


def run(capsys, *arguments, code=0):
    """What a command prints, on standard output if it succeeds, else on standard error."""
    assert cli.run(["weights", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_from_the_address_to_the_denoiser(site, cache, capsys, data):
    listed = sum(len(preset.files) or 1 for preset in presets.PRESETS.values())
    assert run(capsys, "list").count("not fetched") == listed
    with pytest.raises(ValueError, match="run `speciation weights fetch edm2-xs`"):
        load_edm2("edm2-xs")
    printed = run(capsys, "fetch", "edm2-xs").splitlines()
    digests = [hashlib.sha256((data / f"{tiny}.pkl").read_bytes()).hexdigest() for tiny in OFFICIAL]
    assert printed == [
        f"{cache / name} sha256 {digest}" for name, digest in zip(OFFICIAL.values(), digests, strict=True)
    ]
    assert run(capsys, "list").count("not fetched") == listed - 2
    model = load_edm2("edm2-xs")
    assert model.unconditional is not None
    expected = load_edm2(data / "tiny.pkl")
    for key, weight in expected.weights.items():
        np.testing.assert_array_equal(model.weights[key], weight)
    # A second fetch looks at what is there and asks nobody.
    asked = len(site.asked)
    run(capsys, "fetch", "edm2-xs")
    assert len(site.asked) == asked


def test_an_interrupted_fetch_says_how_to_go_on(site, capsys):
    site.breaks_after = 1_000_000
    line = run(capsys, "fetch", "edm2-xs", code=2)
    assert "interrupted after 1000000 of 1482680 bytes; run the command again to go on" in line
    run(capsys, "fetch", "edm2-xs", code=2)  # the first file is done, the second breaks off
    run(capsys, "fetch", "edm2-xs")
    assert site.asked == [None, "bytes=1000000-", None, "bytes=1000000-"]


def test_without_network_a_person_is_told_what_to_do(cache, capsys, monkeypatch):
    monkeypatch.setattr(presets, "EDM2_ADDRESS", "http://127.0.0.1:9/")
    name = "edm2-img512-s-2147483-0.130"
    line = run(capsys, "fetch", name, code=2)
    assert f"cannot fetch http://127.0.0.1:9/{name}.pkl: " in line
    assert f"get {name}.pkl elsewhere and put it at {cache / name}.pkl" in line


def test_list_names_addresses_sizes_and_the_folder(cache, capsys):
    printed = run(capsys, "list")
    for name in OFFICIAL.values():
        address = f"https://nvlabs-fi-cdn.nvidia.com/edm2/posthoc-reconstructions/{name}"
        assert f"{address} (about 2" in printed
    assert printed.endswith(f"cache folder: {cache}\n")


@pytest.mark.parametrize("tiny", OFFICIAL)
def test_convert_and_check(tiny, cache, data, capsys, tmp_path):
    source, target = data / f"{tiny}.pkl", tmp_path / "new" / "a.safetensors"
    assert run(capsys, "convert", source, target) == f"written: {target}\n"
    original, converted = read_torch_pickle(source), read_safetensors(target)
    assert converted.attributes == original.attributes
    assert all(
        converted.tensors[key].tobytes() == original.tensors[key].tobytes() for key in original.tensors
    )
    for path in (source, target):
        printed = run(capsys, "check", path).splitlines()
        classes = "unconditional" if "uncond" in tiny else "10 classes"
        assert printed[0] == f"{path}: EDM2 for images of 16 x 16 x 4, {classes}, channels 32, 64"
        assert printed[1] == f"tensors: {len(original.tensors)} ({len(original.tensors)} float16)"
        # ORIGIN.md: trainable values, and 320 in the buffers of the Fourier features.
        assert printed[2] == f"values: {(723_627 if 'uncond' in tiny else 724_267) + 320:,}"
        assert printed[3] == f"sha256: {hashlib.sha256(path.read_bytes()).hexdigest()} (none recorded)"


def test_check_holds_a_fetched_file_to_its_record(site, cache, capsys):
    run(capsys, "fetch", "edm2-xs")
    path = cache / OFFICIAL["tiny"]
    assert run(capsys, "check", path).endswith("(as recorded)\n")
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    assert "has changed since it was fetched" in run(capsys, "check", path, code=2)
    assert "has changed since it was fetched" in run(capsys, "fetch", "edm2-xs", code=2)


def test_check_and_convert_refuse_what_does_not_fit(data, capsys, tmp_path):
    checkpoint = read_torch_pickle(data / "tiny.pkl")
    path, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    short = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "logvar_linear.weight"}
    write_safetensors(path, short, checkpoint.attributes)
    for arguments in (("check", path), ("convert", path, target)):
        assert f"{path}: 1 tensor(s) missing: logvar_linear.weight" in run(capsys, *arguments, code=2)
    assert not target.exists()
    bad = dict(checkpoint.tensors) | {"unet.out_gain": np.array(np.nan, np.float16)}
    write_safetensors(path, bad, checkpoint.attributes)
    assert "tensor unet.out_gain holds 1 value(s) that are not finite" in run(capsys, "check", path, code=2)


def test_other_checkpoints_are_converted_and_described_too(capsys, tmp_path):
    values = np.arange(6, dtype=np.float32)
    path, target = tmp_path / "a.pt", tmp_path / "a.safetensors"
    found = {"state_dict": {"w": forge.rebuild(forge.identity(values), values)}, "epoch": 3}
    path.write_bytes(forge.archive(found, {"0": values}))
    run(capsys, "convert", path, target)
    assert read_safetensors(target).attributes == {"epoch": 3}
    assert run(capsys, "check", target).startswith(
        f"{target}: tensors of no network known here\ntensors: 1 (1 float32)"
    )


def test_an_attack_is_one_line(capsys, tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(forge.dump(forge.Call(forge.Name("os", "system"), f"touch {tmp_path / 'marker'}")))
    for arguments in (("check", path), ("convert", path, tmp_path / "a.safetensors")):
        line = run(capsys, *arguments, code=2)
        assert line == (
            f"speciation: {path}: the file uses 'os'.'system', which a checkpoint does not need; "
            "nothing of it was run\n"
        )
    assert list(tmp_path.iterdir()) == [path]


def test_a_trainers_file_says_what_was_left_aside(cache, capsys, data):
    printed = run(capsys, "check", data.parent / "trainer" / "trainer.ckpt")
    assert "left aside, neither looked up nor read: __builtin__.frozenset" in printed
    assert "tensors of no network known here" in printed
