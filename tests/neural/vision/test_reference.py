"""Published statistics and folders of images: what is read, and what is refused in one line."""

import pickle

import numpy as np
import pytest
from PIL import Image

from neural.vision.distances import frechet_distance, moments
from neural.vision.reference import image_files, read_images, read_moments
from tests.neural.vision import rule


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(50, 4))


def statistics(features):
    mean, covariance, count = moments(features)
    entry = {"mu": mean, "sigma": covariance}
    return {"num_images": count, "fid": entry, "fd_dinov2": {"mu": mean[:2], "sigma": covariance[:2, :2]}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_published_pickles_are_read(features, tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(statistics(features), protocol=protocol))
    found = read_moments(tmp_path / "a.pkl")
    np.testing.assert_array_equal(found.covariance, moments(features).covariance)
    assert found.count == 50
    assert frechet_distance(found, features) == pytest.approx(0, abs=1e-9)
    assert read_moments(tmp_path / "a.pkl", "fd_dinov2").mean.shape == (2,)


def test_archives_of_numpy_are_read(features, tmp_path):
    mean, covariance, _ = moments(features)
    np.savez(tmp_path / "a.npz", mu=mean, sigma=covariance)
    np.testing.assert_array_equal(read_moments(tmp_path / "a.npz").mean, mean)


class Attack:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.ones(3)}, "holds no statistics of fid"),
        ({"fid": {"mu": np.ones(3), "sigma": np.eye(2)}}, "must hold a finite mean"),
        ({"fid": {"mu": np.ones(2), "sigma": np.array([[1.0, 2], [0, 1]])}}, "not symmetric"),
        ({"fid": {"mu": np.full(2, np.nan), "sigma": np.eye(2)}}, "finite"),
        ({"fid": Attack()}, "print"),
        ([1, 2], "one pickled dictionary"),
    ],
)
def test_what_is_no_statistics_is_refused_and_nothing_runs(content, message, tmp_path, capsys):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_moments(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_cut_archive_is_refused(features, tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.ones(3))
    with pytest.raises(ValueError, match="must hold an array sigma"):
        read_moments(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot read"):
        read_moments(tmp_path / "a.npz")


def test_folders_of_images(tmp_path):
    images = rule.images("folder", 5, 8, 9, 3)
    (tmp_path / "b").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / ("b" if i % 2 else ".") / f"{i}.png")
    # Left by a writer that was killed.
    (tmp_path / "b" / ".7.png.partial-a.png").write_bytes(b"half a picture")
    files = image_files(tmp_path)
    assert [file.name for file in files] == ["0.png", "2.png", "4.png", "1.png", "3.png"]
    found = np.concatenate(list(read_images(files, 2)))
    np.testing.assert_array_equal(found, images[[0, 2, 4, 1, 3]])
    Image.fromarray(images[0][:5]).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"c\.png has 5 x 9 pixels, the first image 8 x 9"):
        list(read_images(image_files(tmp_path), 4))
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"c\.png is no image"):
        list(read_images(image_files(tmp_path), 4))
    with pytest.raises(ValueError, match="is not a folder"):
        image_files(tmp_path / "nowhere")
