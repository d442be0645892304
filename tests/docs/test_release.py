"""The facts of a release agree: version and date in pyproject.toml, CITATION.cff and CHANGELOG.md."""

import datetime
import re
import tomllib

from tests.docs.pages import text_of


def _project():
    return tomllib.loads(text_of("pyproject.toml"))["project"]


def _citation(field):
    (value,) = re.findall(rf"^{field}: (.+)$", text_of("CITATION.cff"), re.MULTILINE)
    return value


def test_one_version_and_one_date():
    newest, *older = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest == (_project()["version"], _citation("date-released"))
    assert _citation("version") == newest[0]
    dates = [datetime.date.fromisoformat(date) for _, date in (newest, *older)]
    assert dates == sorted(dates, reverse=True)


def test_links_of_the_project_are_encrypted():
    assert all(url.startswith("https://") for url in _project()["urls"].values())


def test_every_extra_of_users_is_on_the_page_on_installation():
    page = text_of("docs/start/install.md")
    assert [extra for extra in _project()["optional-dependencies"] if f"`{extra}`" not in page] == []


def test_the_recipe_for_conda_has_the_floors_of_the_project():
    floors = {re.split(r"[>=]", line)[0]: line for line in _project()["dependencies"]}
    recipe = re.findall(r"^  - ([\w-]+)(>=\S+)$", text_of("environment.yml"), re.MULTILINE)
    named = {name.removesuffix("-base"): floor for name, floor in recipe}
    assert named.pop("python") == _project()["requires-python"]
    assert {name: f"{name}{floor}" for name, floor in named.items()} == {name: floors[name] for name in named}
