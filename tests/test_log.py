"""Progress lines and what is kept out of the log."""

import io
import json
import logging
import os
import subprocess
import sys
import time

import pytest

from pipeline import log


def test_urls_lose_their_secrets_and_web_text_its_control_characters() -> None:
    assert log.clean_url("https://user:pw@example.org/a/b?X-Amz-Signature=s#f") == "https://example.org/a/b"
    assert log.clean_url("http://user:pw@[x/a?sig=s#f") == "[x/a"
    assert log.clean("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc"
    assert len(log.clean("x" * 1000)) == 300


def test_progress_shows_rate_and_time_left(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with log.Progress("job", 100, "rows", file=out) as progress:
        progress.start_at(20)
        now[0] = 20.0
        progress.advance(40, note="wave 2")
    lines = out.getvalue().splitlines()
    assert "60/100 rows" in lines[0] and "2 rows/s" in lines[0] and "20s left" in lines[0] and "wave 2" in lines[0]
    assert "in 20s" in lines[-1]


def test_progress_goes_to_stderr(monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(log.sys, "stderr", out)
    with log.Progress("job", 3, "rows") as progress:
        for _ in range(3):
            progress.advance()
    assert "3/3 rows" in out.getvalue()


def test_json_lines() -> None:
    out = io.StringIO()
    log.JsonLines(out).write(step=1, loss=0.5)
    assert json.loads(out.getvalue()) == {"step": 1, "loss": 0.5}


BAD = (
    "\x00\x07\x1b\x7f\x85\x9b\n\r\t\u00ad\u061c\u200b\u200e\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\ud83d\udfff\ue000"
    "\U000e0001\U000e0041"
)


@pytest.mark.parametrize("bad", BAD, ids=lambda c: f"{ord(c):04x}")
def test_what_a_terminal_obeys_or_hides_is_escaped(bad: str) -> None:
    found = log.clean(f"a{bad}b")
    assert bad not in found and found.isprintable() and found == f"a{bad.encode('unicode_escape').decode()}b"


def test_what_people_write_stays() -> None:
    text = "\u00fcn\u00ef-\u65e5\u672c \u05e9\u05dc\u05d5\u05dd \u2764\ufe0f \U0001f600"
    assert log.clean(text) == text


def test_a_long_text_costs_no_more_than_its_first_part() -> None:
    began_s = time.process_time()
    assert len(log.clean("\x1b" * 50_000_000)) == 300
    assert time.process_time() - began_s < 0.5


def test_messages_are_one_line_and_tracebacks_keep_theirs() -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", out)
        root = logging.getLogger()
        levels, handlers = (root.level, log.logger.level), root.handlers[:]
        try:
            log.setup()
            log.logger.info("a \x1b[2J\u202e %s", "b\nc")
            logging.getLogger("other").error("two\nlines \x07")
            try:
                raise ValueError("bad \x1b]0;title\x07")
            except ValueError:
                log.logger.exception("failed")
        finally:
            root.handlers[:] = handlers
            root.setLevel(levels[0])
            log.logger.setLevel(levels[1])
    lines = out.getvalue().splitlines()
    assert lines[:4] == ["a \\x1b[2J\\u202e b\\nc", "two", "lines \\x07", "failed"]
    assert lines[4].startswith("Traceback") and lines[-1] == "ValueError: bad \\x1b]0;title\\x07"


def test_say_prints_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.say()
    log.say("a\nb\x1b")
    log.say("x" * 3000)
    log.say("x" * 3000, limit=10)
    assert capsys.readouterr().out == "\na\\nb\\x1b\n" + "x" * 1999 + "\u2026\n" + "x" * 9 + "\u2026\n"


def test_a_locale_without_unicode_is_no_error() -> None:
    script = (
        r"from pipeline import log; log.setup(); log.say('\u65e5'); log.logger.info('%s', '\ud83d'); print('\u2026')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u65e5\n\\u2026\n", "\\ud83d\n")


def test_the_advice_of_ray_data_is_not_ours() -> None:
    from ray.data._internal.util import _annotate_exception_with_retry_context as annotate

    for error in (OSError("s3://b/x: The bucket does not exist"), OSError(5, "Input/output error")):
        wanted = str(error)
        about = {"attempts": 1, "max_attempts": 1, "total_backoff_s": 0.0, "exception_str": "ACCESS_DENIED"}
        found = annotate(annotate(error, description="run map task", **about), description="write", **about)
        assert log.reason_of(found) == wanted
    assert log.reason_of(KeyError()) == "KeyError"
