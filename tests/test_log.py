"""Progress lines and what is kept out of the log."""
import io
import json

from pipeline import log


def test_urls_lose_their_secrets_and_web_text_its_control_characters() -> None:
    assert log.clean_url("https://user:pw@example.org/a/b?X-Amz-Signature=s#f") == "https://example.org/a/b"
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


def test_track_counts_what_it_yields(monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(log.sys, "stderr", out)
    assert list(log.track([1, 2, 3], "job", "rows")) == [1, 2, 3]
    assert "3/3 rows" in out.getvalue()


def test_json_lines() -> None:
    out = io.StringIO()
    log.JsonLines(out).write(step=1, loss=0.5)
    assert json.loads(out.getvalue()) == {"step": 1, "loss": 0.5}
