"""What a release states of itself, and what the workflow does that makes one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vlbench
from vlbench.cli import main as command_line
from vlbench.commit import commit_of

CHECKOUT = Path(__file__).parents[1]
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="an unpacked sdist has no workflows")


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "vlbench").mkdir()
    (tmp_path / "vlbench" / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_the_commit_of_a_checkout(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "v9")  # a tag is no commit
    assert commit_of(checkout) == commit
    (checkout / "vlbench" / "code.py").write_text("a = 2\n")
    assert commit_of(checkout) == f"{commit}-dirty"


def test_what_a_build_has_left_counts_where_there_is_no_git(checkout, tmp_path):
    (checkout / "vlbench" / "COMMIT").write_text("0" * 40 + "\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")
    installed = tmp_path / "site-packages"
    (installed / "vlbench").mkdir(parents=True)
    assert commit_of(installed) is None
    (installed / "vlbench" / "COMMIT").write_text("0" * 40 + "\n")
    assert commit_of(installed) == "0" * 40


def test_a_machine_without_git_has_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout) is None


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ("0123456789" * 4, " (commit 0123456)"),
        ("0123456789" * 4 + "-dirty", " (commit 0123456, modified)"),
        (None, ""),
    ],
)
def test_the_version_says_the_commit(commit, said, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "git_commit", lambda: commit)
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vlbench {vlbench.__version__}{said}\n"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert citation["version"] == vlbench.__version__
    assert {"cff-version", "message", "title", "type", "license", "authors"} <= citation.keys()
    for work in (citation, *citation["references"]):
        assert work["title"]
        assert all("name" in author or {"family-names", "given-names"} <= author.keys() for author in work["authors"])


def steps(job):
    return [step.get("uses") or step["run"] for step in job["steps"]]


def test_a_tag_is_built_tried_and_published():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "release.yml").read_text())
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as a truth value
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    (script,) = [step for step in steps(build) if step.startswith("tests/release.sh")]
    assert script.endswith('"$GITHUB_REF_NAME"')
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in build
    # What is published is what the first job tried, under an identity that the first job has not.
    assert publish["needs"] == "build"
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert [step.partition("@")[0] for step in steps(publish)] == [
        "actions/download-artifact", "pypa/gh-action-pypi-publish"
    ]  # fmt: skip
    (upload,) = [step["with"] for step in build["steps"] if "upload-artifact" in step.get("uses", "")]
    (download,) = [step["with"] for step in publish["steps"] if "download-artifact" in step["uses"]]
    assert (upload["name"], upload["path"]) == (download["name"], "dist/release")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_what_runs_is_there(path):
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for step in steps(job):
            if re.match(r"[\w-]+/[\w-]+@", step):
                assert re.search(r"@(v\d+|release/v\d+)$", step), step
            for script in re.findall(r"(?<!\S)(?:tests/\S+\.sh|\.ci/run)", step):
                assert (CHECKOUT / script).stat().st_mode & 0o100, script
            for target in re.findall(r"^make (\S+)", step):
                assert re.search(rf"^{target}:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE), target


def test_a_tag_of_another_version_is_refused_before_anything_is_built():
    ended = subprocess.run(
        [CHECKOUT / "tests" / "release.sh", sys.executable, "v9.9.9"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"the tag is v9.9.9 and the version {vlbench.__version__}; the tag has to be v{vlbench.__version__}\n"
    )
    assert ended.stdout == ""
