"""No page and no --help tells a reader to type what the command line does not know."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from tests import documented
from tests.unit.test_cli import registered, summary_document
from topologies.cli.app import app
from topologies.cli.summary import print_slices

PROGRAM = get_command(app)
_IN_QUOTES = re.compile(r"^eval \"\$\((.*)\)\"$")


def parse(line: str) -> None:
    """As the command line does, without carrying it out; raises what it would print."""
    words = shlex.split(line, comments=True)[1:]
    context, command = None, PROGRAM
    while True:
        context = command.make_context(words[0] if words else "", list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        _, command, words = command.resolve_command(context, words)
        assert command is not None


def examples() -> list[str]:
    """Of every --help."""
    found = []
    for name in sorted(registered()):
        command = PROGRAM
        for word in name:
            command = command.commands[word]
        lines = re.sub(r"\\\n\s*", "", command.help or "").splitlines()
        told = [_IN_QUOTES.sub(r"\1", line.strip()) for line in lines]
        found += [line for line in told if line.startswith(documented.PROGRAM)]
    return found


@pytest.mark.parametrize(
    "line", [line for page in documented.PAGES for line in documented.commands(page)]
)
def test_what_a_page_tells_to_type_is_understood(line: str) -> None:
    parse(line)


def test_what_help_tells_to_type_is_understood() -> None:
    told = examples()
    assert len(told) > len(registered())
    for line in told:
        parse(line)


def test_the_demo_s_table_is_shown_as_it_looks_today(capsys: pytest.CaptureFixture[str]) -> None:
    print_slices(summary_document("xapps", 1.0)["slices"])
    header = capsys.readouterr().out.splitlines()[0].split()
    (shown,) = (b for b in documented.blocks(documented.README) if "policy xapps, seed" in b)
    assert header in [line.split() for line in shown.splitlines()]


def test_an_unknown_option_would_be_found() -> None:
    with pytest.raises(Exception, match="no-such-option"):
        parse("./testbed.sh up minimal --no-such-option")
