"""``speciation models``: what it prints can be read by people and by other programs."""

import pytest

from neural import imagenet
from neural.decisions import shipped
from tests.paper_figures.asked import PAIR, run


def test_every_known_model_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    printed = run(capsys, "models", "list")
    assert "edm2-xs" in printed
    assert "mixture:FAMILY:CLASSES:DIM" in printed


def test_classes_by_index(capsys):
    lines = run(capsys, "models", "classes", "imagenet").splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        [str(i), name] for i, name in enumerate(imagenet.names())
    ]
    found = run(capsys, "models", "classes", "imagenet", "--find", "Golden Ret")
    assert found == "207\tgolden retriever\t(n02099601)\n"
    assert run(capsys, "models", "classes", PAIR) == "0\t0\n1\t1\n"


def test_groups(capsys):
    assert "118\tdog\t151-268\n" in run(capsys, "models", "classes", "imagenet", "--groups", "--find", "dog")


def test_partitions_are_listed_and_printed(capsys):
    listed = run(capsys, "models", "partitions")
    assert all(name in listed for name in shipped())
    for name in shipped():
        printed = run(capsys, "models", "partitions", name)
        assert "source: " in printed
    assert "  cat (4): tabby, Persian cat, Siamese cat, Egyptian cat" in run(
        capsys, "models", "partitions", "pets"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("classes imagenet --find qqq", "nothing in imagenet holds 'qqq'"),
        ("classes nowhere", "model must be a name or a file or folder that exists"),
        ("partitions dogcat", "partition must be a file, or one of"),
    ],
)
def test_what_is_refused(line, message, capsys):
    assert message in run(capsys, "models", *line.split(), code=2)
