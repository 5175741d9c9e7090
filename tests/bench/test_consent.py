"""Every case of consent, asked by the ways of the product; docs/consent.md says the same."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bench.consent import _peers, answers
from pipeline.bench.consent_site import Case, Sites, read_cases
from pipeline.curate.fetch import http, keepers

CASES = read_cases()
DOCUMENT = (Path(__file__).parents[2] / "docs/consent.md").read_text("utf-8")


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[tuple[str, str], str]]:
    with pytest.MonkeyPatch.context() as patch, Sites(CASES) as sites:
        patch.setattr(keepers, "_in_ray", lambda: False)  # whether a Ray of the session runs or not
        said = answers(CASES, sites)
    http.forget()
    yield {(case.group, case.name): answer for case, answer in zip(CASES, said, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_the_answer_is_right(case: Case, ours: dict[tuple[str, str], str]) -> None:
    assert ours[case.group, case.name] == case.right, case.source


def test_the_table_is_large_and_each_case_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 144 and len({(case.group, case.name) for case in CASES}) == len(CASES)
    refused = sum(not case.right.startswith("allowed") for case in CASES)
    assert 0.4 < refused / len(CASES) < 0.7  # who refuses all, or takes all, has not half of it


def test_the_document_has_every_case_and_what_is_right() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in DOCUMENT.splitlines() if line.startswith("|")]
    groups = {case.group for case in CASES}
    told = {(row[0], row[1]): (row[2], row[3], row[-1]) for row in rows if row[0] in groups and len(row) > 6}
    assert told == {(case.group, case.name): (case.right, case.right, case.source) for case in CASES}


def test_peers_are_asked_by_a_python_of_their_own() -> None:
    cases = [case for case in CASES if case.name in ("our name", "another's name")]
    with Sites(cases) as sites:
        said = _peers(sys.executable, [sites.url(case) for case in cases])
        (robotparser,) = [had for name, had in said.items() if name.startswith("urllib")]
        assert [robotparser[sites.url(case)] for case in cases] == [False, True]
        with pytest.raises(ValueError, match="--peers /no/python cannot run"):
            _peers("/no/python", [])
