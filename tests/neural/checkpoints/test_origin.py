"""Names and hashes of files, without paths of the machine."""

import hashlib

from neural.checkpoints import hashes, portable


def test_files_by_name_and_folders_by_the_paths_in_them(tmp_path):
    (tmp_path / "model" / "unet").mkdir(parents=True)
    for name, content in {"a.pkl": b"a", "model/unet/w.bin": b"w", "model/index.json": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
    found = hashes([tmp_path / "a.pkl", tmp_path / "model"])
    wanted = {"a.pkl": b"a", "index.json": b"{}", "unet/w.bin": b"w"}
    assert found == {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}


def test_a_recorded_hash_is_taken_and_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"one")
    first = hashes([path])
    path.write_bytes(b"other")
    assert hashes([path]) != first
    (tmp_path / "a.pkl.sha256").write_text("0" * 64 + "  a.pkl\n")
    assert hashes([path]) == {"a.pkl": "0" * 64}


def test_absolute_paths_lose_their_folders(tmp_path):
    assert portable(str(tmp_path / "a.pkl")) == "a.pkl"
    assert portable("runs/a.pkl") == "runs/a.pkl"
    assert portable("zoo:tree") == "zoo:tree"
