"""What every file of the repository must keep to, and that its parts agree with each other."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from teeverify import errors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# In pieces, for this file is searched too.
REGISTRIES = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
    )
]
PRIVATE_FOLDERS = ["/".join(parts) for parts in (("", "work", ""), ("", "opt", "wheels"))]
PRIVATE_FOLDERS += [f"shared/{name}" for name in ("design", "facts", "hooks", "tools")]
HOME_FOLDER = re.compile(rb"/(?:home|Users)/[a-z]")
EMPTY_FILE = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("text", REGISTRIES + PRIVATE_FOLDERS)
def test_no_file_names_a_registry_or_somebodys_folder(text, project_files, repository):
    found = [
        path.relative_to(repository).as_posix()
        for path in project_files
        if text.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_file_names_a_home_folder(project_files, repository):
    found = [
        path.relative_to(repository).as_posix()
        for path in project_files
        if HOME_FOLDER.search(path.read_bytes())
    ]
    assert found == []


@pytest.mark.vectors
def test_no_recorded_evidence_is_in_the_repository(vectors, project_files, repository):
    recorded = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in vectors.rglob("*")
        if path.is_file()
    } - {EMPTY_FILE}
    found = [
        path.relative_to(repository).as_posix()
        for path in project_files
        if hashlib.sha256(path.read_bytes()).hexdigest() in recorded
    ]
    assert found == []


def _project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_oldest_dependencies_tested_are_the_floors(repository):
    pinned = dict(
        re.findall(
            r"^([\w-]+)==([\w.]+)$",
            (repository / "tests/oldest-constraints.txt").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    floors = dict(
        re.match(r"([\w-]+)>=([\w.]+)", item).groups()
        for item in _project(repository)["dependencies"]
    )
    # 2 and 2.0.0 are the same version.
    assert {name: _version(text) for name, text in pinned.items()} == {
        name: _version(text) for name, text in floors.items()
    }


def _version(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(".")]
    return numbers + [0] * (3 - len(numbers))


def test_the_changelog_has_this_version(repository):
    import teeverify

    changelog = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert teeverify.__version__ in headings[1:] or len(headings) == 1


def test_the_licence_is_the_standard_text(repository):
    """The digest is that of the text which the Apache Software Foundation publishes."""
    digest = hashlib.sha256((repository / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert _project(repository)["license"] == "Apache-2.0"


def test_make_help_lists_every_target(repository):
    targets = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    listing = subprocess.run(
        ["make", "--no-print-directory"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert {"demo", "test", "lint"} < {*targets[1].split()}
    assert [each for each in targets[1].split() if f"make {each} " not in listing] == []


def test_security_names_the_root_keys(repository):
    """The fingerprints that people compare with are those which the package trusts."""
    from teeverify.roots import amd, google, vendors

    text = (repository / "SECURITY.md").read_text(encoding="utf-8")
    known = [*vars(vendors).values(), *vars(amd).values(), google.GCE_TCB_ROOT]
    roots = [
        each
        for each in known
        if isinstance(each, (vendors.VendorRoot, google.PinnedCertificate))
        and not isinstance(each, amd.VendorIntermediate)
    ]
    assert len(roots) == 8
    assert [root.name for root in roots if root.certificate_sha256 not in text] == []


def test_security_names_every_host_that_is_asked(repository):
    from teeverify.nvidia import services
    from teeverify.snp import kds
    from teeverify.tdx import pcs

    text = (repository / "SECURITY.md").read_text(encoding="utf-8")
    urls = [
        value
        for module in (services, kds, pcs)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("https://")
    ]
    assert len(urls) >= 7
    assert [url for url in urls if f"`{urlsplit(url).hostname}`" not in text] == []


def test_the_page_of_python_names_every_public_name(repository):
    import teeverify

    page = (repository / "docs/api.md").read_text(encoding="utf-8")
    missing = [name for name in teeverify.__all__ if not re.search(rf"\bteeverify\.{name}\b", page)]
    branches = [name for name in missing if hasattr(errors, name)]
    assert missing == branches  # these are on the page with their module


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
GENERATED = ("docs/checks.md", "docs/presets.md", "docs/layouts.md")


def test_links_lead_to_files(repository):
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(repository)}: {link}"
        for page in pages
        if "_build" not in page.parts
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
        and (page.parent / link).resolve().relative_to(repository).as_posix() not in GENERATED
    ]
    assert broken == []


def test_the_index_names_every_page(repository):
    index = (repository / "docs/index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in (repository / "docs").glob("*.md")} - {"index", "layouts"}
    assert {page for page in pages if f"{{doc}}`{page}`" not in index} == {"changelog"}
