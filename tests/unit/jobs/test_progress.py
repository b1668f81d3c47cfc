"""What a run shows while it works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.cli.printing import console_for, print_finding
from jobs.driver.progress import Lines, format_count, meter


def test_lines_come_now_and_then_with_the_pace_of_the_work() -> None:
    text, now = io.StringIO(), 0.0
    lines = Lines(Console(file=text, width=200), 100, clock=lambda: now)
    for now, ok, failed in [(60.0, 10, 0), (65.0, 5, 0), (80.0, 20, 5), (100.0, 60, 0)]:  # noqa: B007
        lines.advance(ok, failed)
    assert text.getvalue().splitlines() == [
        "10/100 done, 0 failed",
        "40/100 done, 5 failed, 1.5 photos/s, 40 s left",
        "100/100 done, 5 failed, 2.2 photos/s, 0 s left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, soft_wrap=True)
    with meter(console, 6) as advance:
        advance(1, 1)
        advance(2, 1)
    assert "5/6" in text.getvalue()
    assert "2 failed" in text.getvalue()


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a:cat:1 [red]b[/] {'long ' * 50}c"
    print_finding(console_for(), "bad", text)
    assert capsys.readouterr().out == f"bad  {text}\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 photos"), (0.5, "0.5 photo"), (1, "1 photo"), (1_234_567, "1,234,567 photos")],
)
def test_counts_are_written_whole(count: float, text: str) -> None:
    assert format_count(count, "photo") == text
