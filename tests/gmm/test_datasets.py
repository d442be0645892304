import dataclasses
import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from gmm.datasets import FASHION_CLASSES, MOST_ROUNDED, load_data

# One rounding to float32 either way.
FLOAT32 = 1e-6


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
    assert data.name == "digits"
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


def test_standardised_points_know_the_way_back():
    rng = np.random.default_rng(0)
    x = (100 + rng.normal(size=(50, 6)) * np.arange(1, 7)).astype(np.float32)
    data = dataclasses.replace(load_data("digits").subset(50), x=x, shape=(2, 3))
    scaled = data.standardised()
    assert scaled.scale == pytest.approx(np.sqrt(x.var(axis=0, dtype=float).mean()), rel=FLOAT32)
    np.testing.assert_allclose(scaled.offset, x.mean(axis=0, dtype=float), rtol=FLOAT32)
    twice = scaled.standardised()
    for again in (scaled, twice, scaled.take(np.arange(50))):
        images = again.in_source_units(again.x)
        assert images.shape == (50, 2, 3)
        np.testing.assert_allclose(images.reshape(50, 6), x, rtol=FLOAT32)
    with pytest.raises(ValueError, match="must hold points that differ, got 50 times the same"):
        dataclasses.replace(data, x=np.ones((50, 6), np.float32)).standardised()


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_points_are_centred_before_they_are_rounded(offset, dtype, tmp_path):
    """Standardised points do not depend on an offset of the source, and lead back to it."""
    x = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 2.0, 3.0] * 50
    x = x.round().astype(dtype) + dtype(offset)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    scaled = load_data(tmp_path / "a.npz").standardised()
    wanted = (x - x.mean(axis=0, dtype=float)) / np.sqrt(x.var(axis=0, dtype=float).mean())
    assert scaled.x.dtype == np.float32
    np.testing.assert_allclose(scaled.x, wanted, atol=MOST_ROUNDED)
    np.testing.assert_allclose(scaled.in_source_units(scaled.x), x, rtol=0, atol=MOST_ROUNDED * np.ptp(x))


def test_split_keeps_every_class_share_and_every_point():
    data = load_data("digits")
    learn, held_out = data.split(0.25, seed=2**40)
    assert len(learn.x) + len(held_out.x) == len(data.x)
    together = np.concatenate([learn.x, held_out.x])
    np.testing.assert_array_equal(np.sort(together.sum(axis=1)), np.sort(data.x.sum(axis=1)))
    shares = [np.bincount(part.y) / len(part.y) for part in (learn, held_out)]
    np.testing.assert_allclose(*shares, atol=0.003)


def test_classes_have_names(tmp_path):
    x, names = np.zeros((3, 2)), np.array(["cat", "dog", "ape"])
    np.savez(tmp_path / "a.npz", x=x, y=[2, 0, 2], classes=names)
    data = load_data(tmp_path / "a.npz")
    assert data.classes == ("cat", "ape")
    np.testing.assert_array_equal(data.y, [1, 0, 1])
    np.savez(tmp_path / "a.npz", x=x, y=np.array([1.0, 0.0, 7.0]))
    assert load_data(tmp_path / "a.npz").classes == ("0", "1", "7")
    np.savez(tmp_path / "a.npz", x=x, y=np.array([b"caf\xc3\xa9", b"b", b"b"]))
    assert load_data(tmp_path / "a.npz").classes == ("b", "café")
    for y, message in ([[0, 3, 1], "y in 0..C-1 beside classes"], [[0, np.nan, 1], "finite labels"]):
        np.savez(tmp_path / "a.npz", x=x, y=y, classes=names)
        with pytest.raises(ValueError, match=message):
            load_data(tmp_path / "a.npz")


def test_fashion_mnist_has_its_names(tmp_path):
    folder = tmp_path / "Fashion-MNIST"
    folder.mkdir()
    write_idx(folder / "t10k-images.idx3-ubyte.gz", np.zeros((2, 2, 2)), gzip.open)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.array([9, 1]))
    data = load_data(folder, split="test")
    assert (data.name, data.classes) == ("Fashion-MNIST/test", (FASHION_CLASSES[1], FASHION_CLASSES[9]))
    write_idx(folder / "t10k-labels-idx1-ubyte", np.array([9, 10]))
    assert load_data(folder, split="test").classes == ("9", "10")


def test_arrays_in_fortran_order_are_read_as_numpy_reads_them(tmp_path):
    x = np.asfortranarray(np.arange(24.0).reshape(4, 3, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4) % 2)
    np.testing.assert_array_equal(load_data(tmp_path / "a.npz").x, x.reshape(4, 6))


# ---------------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 2))}, "must hold an array y, got x.npy"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(3)}, r"must hold x \(n, ...\) and y \(n,\)"),
        ({"x": np.zeros((2, 0)), "y": np.zeros(2)}, r"must hold x \(n, ...\) and y \(n,\)"),
        ({"x": np.full((2, 2), np.nan), "y": np.zeros(2)}, "finite"),
        ({"x": np.full((2, 2), 1e300), "y": np.zeros(2)}, "finite in float32"),
        ({"x": np.full((2, 2), "a"), "y": np.zeros(2)}, "must hold numbers in x"),
        ({"x": np.zeros((2, 2)), "y": np.array([{}, []], object)}, "numbers or strings, got object"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2, "i4,i4")}, "numbers or strings, got"),
        ({"x": np.zeros((2, 2), complex), "y": np.zeros(2)}, "numbers or strings, got complex128"),
    ],
)
def test_bad_archives(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path / "a.npz")


def npy(header, body=b"", version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


def shaped(shape, descr="'|u1'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


HOSTILE_MEMBERS = {
    "empty": b"",
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "unknown version": npy(shaped("(2, 2)"), version=b"\x09\x00"),
    "code": npy(b"{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (2, 2)}\n"),
    "deep": npy(b"(" * 9000),
    "minus signs": npy(b"-" * 9000 + b"1\n"),
    "huge": npy(shaped("(2, 10**18)")),
    "huge number": npy(shaped("(2, 1000000000000000000)"), b"1234"),
    "negative": npy(shaped("(-2, -2)"), b"1234"),
    "many axes": npy(shaped((1,) * 300), b"1"),
    "no size": npy(shaped("(1000000000000, 2)", "'<U0'")),
    "pickle": npy(shaped("(2, 2)", "'|O'"), b"cos\nabort\n(tR."),
    "nested dtype": npy(shaped("(2, 2)", "[('a', '<i4')]")),
    "no dtype": npy(shaped("(2, 2)", "','")),
    "short": npy(shaped("(2, 2)"), b"123"),
    "long": npy(shaped("(2, 2)"), b"12345"),
}


@pytest.mark.parametrize("name", HOSTILE_MEMBERS)
def test_hostile_arrays_are_one_line_and_cost_nothing(tmp_path, name):
    path, good = tmp_path / "a.npz", io.BytesIO()
    np.save(good, np.zeros(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", HOSTILE_MEMBERS[name])
        archive.writestr("y.npy", good.getvalue())
    tracemalloc.start()
    with pytest.raises(ValueError) as caught:
        load_data(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 2**24


def test_every_truncation_and_many_changes_are_refused_or_read(tmp_path):
    """Whatever a byte becomes: a data set, or one line; zip's checksums let few changes through."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(6.0).reshape(3, 2), y=np.array(["a", "b", "a"]))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in range(0, len(whole), 7)]
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(whole))] = rng.integers(256)
        damaged.append(bytes(content))
    refusals = []
    for content in damaged:
        path.write_bytes(content)
        try:
            assert load_data(path).x.shape == (3, 2)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > len(damaged) // 2
    assert not any("\n" in refusal for refusal in refusals)


def test_bombs_stop_at_the_limit(tmp_path):
    zeros = np.zeros((1000, 1000), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=zeros, y=np.zeros(1000))
    for member in ("images-idx3", "labels-idx1"):
        write_idx(tmp_path / f"train-{member}-ubyte.gz", zeros[None, :], gzip.open, shape=(10, 2))
    for source, message in ((tmp_path / "a.npz", "above the limit"), (tmp_path, "another number of bytes")):
        tracemalloc.start()
        with pytest.raises(ValueError, match=message):
            load_data(source, limit=10**5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**6


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\1\0\x08\3" + bytes(12),
        b"\0\0\x07\3" + bytes(12),
        b"\0\0\x08\0",
        b"\0\0\x08\xff" + bytes(1020),
        b"\0\0\x08\3" + b"\xff" * 12,
        b"\0\0\x08\3" + struct.pack(">3I", 20, 4, 3) + b"short",
        b"\0\0\x08\3" + struct.pack(">3I", 20, 0, 3),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_hostile_idx_files_are_one_line(tmp_path, content, end):
    opener = gzip.open if end else open
    with opener(tmp_path / f"train-images-idx3-ubyte{end}", "wb") as stream:
        stream.write(content)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(20))
    with pytest.raises(ValueError) as caught:
        load_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path, idx_folder):
    folder, images, _ = idx_folder
    with pytest.raises(ValueError, match=r"data must be 'digits', a .*, which does not exist"):
        load_data("nothing")
    (tmp_path / "b.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="cannot read"):
        load_data(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"would take .* above the limit"):
        load_data(folder, limit=10)
    with pytest.raises(ValueError, match="split must be train or test"):
        load_data(folder, split="dev")
    with pytest.raises(ValueError, match="split test exists in folders of IDX files only"):
        load_data("digits", split="test")
    with pytest.raises(ValueError, match="must hold t10k-images-idx3-ubyte"):
        load_data(folder, split="test")
    write_idx(folder / "train-images-idx3-ubyte", images, shape=(10**6, 4, 3))
    with pytest.raises(ValueError, match="another number of bytes"):
        load_data(folder)
    for damage in (b"not gzip", gzip.compress(b"12")[:-9] + b"\xff" * 9):
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(damage)
        write_idx(folder / "train-images-idx3-ubyte", images)
        with pytest.raises(ValueError, match="cannot read"):
            load_data(folder)
