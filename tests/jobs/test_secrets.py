"""Secrets planted wherever a run meets some: none in any file of the run, in any log, in what any command prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web as aiohttp_web

from pipeline.curate import waves
from pipeline.curate.journal import Journal
from pipeline.storage import Store
from tests.curate.fetch.conftest import Web, site  # noqa: F401 - a fixture
from tests.jobs.test_exit import everything, picture

ROOT = Path(__file__).parents[2]
SECRETS = {
    "source": "srcSIG9f8e7d6c5b4a3210",
    "media": "mediaSIG0011aabbccddeeff2233",
    "away": "awaySIG5566778899aabbccddee",
    "redirect": "redirSIGffeeddccbbaa99887766",
    "user": "userPW-hunter2-hunter2",
    "line": "linePW-correct-horse-77",
    "cookie": "cookieSID4242424242424242",
    "header": "headerTOKENabcdef0123456789",
    "aws": "awsSECRET+key/0123456789abcdef",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "plain": "hunter22",
}


def command(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
        "AWS_ACCESS_KEY_ID": "AKIAQWERTYUIOPASDFGH",
    }
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=240,
    )


def signed(web: Web) -> str:
    return f"{web.url}/1.png?id=7&Signature={SECRETS['media']}&Key-Pair-Id=K2JCJMDEHXQW5F"


def serve(web: Web) -> None:
    async def redirected(request: aiohttp_web.BaseRequest) -> aiohttp_web.StreamResponse:
        where = f"{web.url}/gone.png?X-Amz-Signature={SECRETS['redirect']}&X-Amz-Credential=AKIAQWERTYUIOPASDFGH"
        raise_to = {"Location": where, "Set-Cookie": f"sid={SECRETS['cookie']}", "X-Token": SECRETS["header"]}
        return aiohttp_web.Response(status=302, headers=raise_to)

    host = web.url.removeprefix("http://")
    lines = [
        {"url": signed(web), "caption": "a signed picture of noise"},
        {"url": f"{web.url}/2.png?token={SECRETS['away']}", "caption": "a host that is away at first"},
        {"url": f"{web.url}/3.png", "caption": "a picture that moved elsewhere"},
        {"url": f"http://joe:{SECRETS['user']}@{host}/4.png", "caption": "a picture behind a password"},
        {
            "url": f"{web.url}/5.png?jwt={SECRETS['token']}",
            "caption": "a picture for one reader",
            "license": f"https://l.example/?sig={SECRETS['media']}",
            "page_url": f"{web.url}/p?access_token={SECRETS['away']}",
        },
        {"url": f"{web.url}/6.png?pw={SECRETS['plain']}&w=300", "caption": "a picture with a short password"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    text += f'{{"url": "http://joe:{SECRETS["line"]}@h/x.png", "caption: broken\n'
    web.pages = {f"/{n}.png": {"body": picture(n), "headers": {"X-Token": SECRETS["header"]}} for n in (1, 5, 6)}
    web.pages |= {
        "/list.jsonl": text,
        "/3.png": redirected,
        "/2.png": {"status": 503, "headers": {"Set-Cookie": f"a={SECRETS['cookie']}"}},
    }


def where(store: Store, *, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, data in everything(store):
        for name, secret in SECRETS.items():
            if name not in but and secret.encode() in data:
                found.setdefault(name, []).append(path.removeprefix(store.url))
    return found


@pytest.mark.slow
def test_planted_secrets_are_in_no_file_and_no_output(site: Web, tmp_path: Path) -> None:  # noqa: F811
    serve(site)
    store = Store(str(tmp_path / "run"))
    options = [
        "--run-dir",
        store.url,
        "--sources",
        f"list={site.url}/list.jsonl?v=3&sig={SECRETS['source']}",
        "--fetch.allow-private",
        "127.0.0.0/8",
        "--fetch.per-host-interval-s",
        "0",
        "--fetch.retries",
        "0",
        "--ray.cpus",
        "1",
        "--export.webdataset",
        "--small.min-side-px",
        "16",
    ]
    outputs = [command("curate_images", *options)]
    assert outputs[0].returncode == 0, outputs[0].stderr
    assert "3 of 7 images kept" in outputs[0].stderr, outputs[0].stderr
    assert where(store, but=("away",)) == {}
    kept = where(store)["away"]
    assert all(path.startswith("/inputs/") for path in kept), "what may be fetched again keeps its URL until then"
    site.pages["/2.png"] = picture(2)
    outputs.append(command("retry", store.url))
    assert "4 of 7 images kept" in outputs[1].stderr, outputs[1].stderr
    assert where(store) == {}
    key = waves.read_inputs(Journal(store))["key"][0].as_py()
    for name, *words in (
        ("status",),
        ("rows",),
        ("rows", "--out", f"{tmp_path}/rows.csv"),
        ("explain", key),
        ("audit",),
        ("explain", signed(site)),
        ("decide", "--set", "small.min_side_px=90"),
        ("diff", store.url),
        ("replay_failure",),
    ):
        outputs.append(command(name, store.url, *words))
        assert outputs[-1].returncode == 0, (name, outputs[-1].stderr)
    again = command("curate_images", f"{store.url}/config.json")
    assert again.returncode == 0 and "nothing left to do" in again.stderr, again.stderr
    revoked = command("revoke", store.url, "--url", signed(site))
    assert "1 inputs, 1 rows" in revoked.stdout and "3 of 7 images kept" in revoked.stderr, revoked
    elsewhere = command("curate_images", f"{store.url}/config.json", "--run-dir", f"{tmp_path}/other")
    assert elsewhere.returncode == 2 and "was saved without the secret" in elsewhere.stderr, elsewhere.stderr
    for output in (*outputs, again, revoked, elsewhere):
        for name, secret in SECRETS.items():
            assert secret not in output.stdout + output.stderr, (name, output.args)
    assert where(store) == {} and where(Store(str(tmp_path))) == {}
