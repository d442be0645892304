import gzip
import struct

import numpy as np
import pytest

from gmm.datasets import load_data


def write_idx(path, array, opener=open, shape=None):
    shape = array.shape if shape is None else shape
    header = struct.pack(">HBB", 0, 0x08, len(shape)) + struct.pack(f">{len(shape)}I", *shape)
    with opener(path, "wb") as stream:
        stream.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def idx_folder(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 4, 3)), np.arange(20) % 3
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels, gzip.open)
    return tmp_path, images, labels


def test_digits_are_scikit_learns():
    data = load_data("digits")
    assert data.x.shape == (1797, 64)
    assert data.shape == (8, 8)
    assert data.classes == tuple("0123456789")
    assert data.x.dtype == np.float32
    scaled = data.standardised().x
    assert np.mean(scaled.astype(float) ** 2) == pytest.approx(1, rel=1e-5)
    assert np.abs(scaled.mean(0)).max() < 1e-5


def test_idx_folders_are_read_zipped_or_not(idx_folder):
    folder, images, labels = idx_folder
    data = load_data(folder)
    np.testing.assert_array_equal(data.x, images.reshape(20, 12))
    np.testing.assert_array_equal(data.y, labels)
    assert data.shape == (4, 3)


def test_npz_labels_may_be_strings(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.array(["cat", "dog", "cat", "ape"]))
    data = load_data(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.x, x)
    assert data.classes == ("ape", "cat", "dog")
    np.testing.assert_array_equal(data.y, [1, 2, 1, 0])


def test_subset_is_fixed_and_keeps_classes_in_order():
    data = load_data("digits")
    part = data.subset(100)
    assert part.x.shape == (100, 64)
    np.testing.assert_array_equal(part.x, data.subset(100).x)
    assert data.subset(5000) is data


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 2))}, "must hold arrays x and y, got x.npy"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(3)}, r"must hold x \(n, ...\) and y \(n,\)"),
        ({"x": np.full((2, 2), np.nan), "y": np.zeros(2)}, "finite"),
        ({"x": np.zeros((2, 2)), "y": np.array([{}, []], object)}, "numbers or strings, got object"),
    ],
)
def test_bad_archives(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path / "a.npz")


def test_bad_files(tmp_path, idx_folder):
    folder, images, _ = idx_folder
    with pytest.raises(ValueError, match="data must be 'digits', a"):
        load_data("nothing")
    (tmp_path / "b.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="cannot read"):
        load_data(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"would take .* above the limit"):
        load_data(folder, limit=10)
    with pytest.raises(ValueError, match="split must be train or test"):
        load_data(folder, split="dev")
    with pytest.raises(ValueError, match="must hold t10k-images-idx3-ubyte"):
        load_data(folder, split="test")
    write_idx(folder / "train-images-idx3-ubyte", images, shape=(10**6, 4, 3))
    with pytest.raises(ValueError, match="another number of bytes"):
        load_data(folder)
    (folder / "train-images-idx3-ubyte").write_bytes(b"\x00\x00")
    with pytest.raises(ValueError, match="cannot read"):
        load_data(folder)
