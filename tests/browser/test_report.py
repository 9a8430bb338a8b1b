"""report.html in a real browser, from disk, in a namespace without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sample_evidence import sample_evidence
from topologies.results.report import write_results

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian package chromium)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take the network away"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_results(folder, sample_evidence())
    return folder / "report.html"


def browse(folder: Path, url: str, *options: str) -> str:
    command = [
        *("unshare", "--net", str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"),
        *("--hide-scrollbars", "--window-size=1300,2400", f"--user-data-dir={folder / 'profile'}"),
        *options,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_page_shows_slices_charts_and_verdict(page: Path) -> None:
    shown = browse(page.parent, page.as_uri(), "--dump-dom")
    for words in ("What each slice got", "video", "control", "97.5 %", "valid", "Packet balance"):
        assert words in shown
    # Two cells x two slices, the SLA strip, the decisions, the delays; three keys of the legend.
    assert shown.count("<svg") == 4 + 3 + 3
    assert shown.count("<polyline") >= 4 * 3 + 2
    assert "NaN" not in shown and "None" not in shown


def test_page_is_drawn(page: Path) -> None:
    drawn, blank = page.with_name("drawn.png"), page.with_name("blank.png")
    browse(page.parent, page.as_uri(), f"--screenshot={drawn}")
    browse(page.parent, "about:blank", f"--screenshot={blank}")
    assert drawn.stat().st_size > 10 * blank.stat().st_size
