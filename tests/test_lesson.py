"""Each snippet of docs/lesson.md prints the output shown below it."""

import doctest
import re

import pytest
from conftest import ROOT

LESSON = ROOT / "docs" / "lesson.md"
TEXT = LESSON.read_text()
SECTIONS = dict(
    section.split("\n", maxsplit=1)
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
)


def session(text: str) -> doctest.DocTest:
    """Return all snippets of `text` as one test with the line numbers of the text."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        inside ^= fence
        lines.append(line if inside and not fence else "")
    return doctest.DocTestParser().get_doctest(
        "\n".join(lines), {}, LESSON.name, str(LESSON), lineno=0
    )


def failures(text: str) -> str:
    """Run all snippets of `text` in one namespace; return the failures."""
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(
        session(text), out=report.append
    )
    return "".join(report)


def links(text: str) -> list[str]:
    return re.findall(r"\]\((?!https://)([^)]+)\)", text)


def test_snippets_print_the_output_shown():
    assert failures(TEXT) == ""


def test_a_wrong_output_is_reported_with_its_line():
    wrong = "A sum:\n\n```pycon\n>>> one = 1\n```\n```pycon\n>>> one + 1\n3\n```\n"
    assert 'lesson.md", line 7' in failures(wrong)
    assert failures(wrong.replace("3\n", "2\n")) == ""


def test_all_code_blocks_are_tested():
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert TEXT.count("```") == 2 * len(blocks)
    for language, code in blocks:
        assert (language, code[:4]) == ("pycon", ">>> "), code
    assert TEXT.count(">>> ") == len(session(TEXT).examples)


def test_links_within_the_project_exist():
    assert links(TEXT)
    for link in links(TEXT):
        assert (LESSON.parent / link).is_file(), link


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_section_links_to_a_module(heading):
    assert re.search(r"\]\(\.\./(tasks|flows)/[\w/]+\.py\)", SECTIONS[heading])


@pytest.mark.parametrize("heading", SECTIONS)
def test_sections_compare_numpy_with_torch(heading):
    examples = session(SECTIONS[heading]).examples
    alike = [example for example in examples if example.source.startswith("alike(")]
    assert alike or not examples
    assert {example.want for example in alike} <= {"True\n", "(True, True)\n"}
