"""The tests' own machinery: a server that is ready, killed or broken is seen as such, and a bad page is caught."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from browsers import Chromium, assert_accessible, assert_fits
from nursery import Warm
from servers import ROOT, NotReady, Serve, Spawn, WarmServer

APP = """
import os
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

GOOD = "<!doctype html><html lang=en><title>Fern</title><main><h1>Fern</h1><p>Pots.</p></main></html>"
BAD = "<html><title>Fern</title><img src=/x.png><p style='width:3000px'>Pots</p></html>"

async def page(request):
    policy = {"content-security-policy": "default-src 'none'"}
    inline = {"inline": "<script>1</script>"}.get(request.query_params.get("with"), "")
    return HTMLResponse((BAD if request.url.path == "/bad" else GOOD) + inline, headers=policy if inline else {})

async def pid(request):
    return PlainTextResponse(f"{os.getpid()} {os.environ.get('SHOP', '')}")

app = Starlette(routes=[Route("/good", page), Route("/bad", page), Route("/pid", pid)])
"""


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """An environment in which `small_shop:app` can be imported."""
    (tmp_path / "small_shop.py").write_text(APP)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "SHOP": "Fern & Co"}


@pytest.mark.server
def test_a_served_app_answers_with_its_environment(serve: Serve, shop: dict[str, str]) -> None:
    """The process is another one, it got the environment, and it is ready when `serve` returns."""
    server = serve("small_shop:app", env=shop)
    assert httpx.get(server.url + "/pid").text == f"{server.pid} Fern & Co"


@pytest.mark.server
def test_a_warm_program_lives_in_a_world_of_its_own() -> None:
    """It is another process in a session of its own, with the environment, arguments, input and output that it was given."""
    child = Warm("house.small_program", "one", "two", env={"SHOP": "Fern & Co"}, talks=True)
    child.stdin.write("three\n")
    child.stdin.flush()
    said = json.loads(child.stdout.readline())
    assert said == {"pid": child.pid, "session": child.pid, "env": {"SHOP": "Fern & Co"}, "words": ["one", "two"], "line": "three\n"}
    child.stdin.write("7\n")
    child.stdin.flush()
    assert (child.wait(), child.stdout.read()) == (7, "left\n")
    child.close()


@pytest.mark.server
def test_a_warm_program_really_dies() -> None:
    """Killed, it is gone with the signal as its code, and its output has ended."""
    child = Warm("house.small_program", env={}, talks=True)
    assert child.poll() is None
    child.kill()
    assert (child.wait(), child.stdout.read()) == (-9, "")
    child.close()


@pytest.mark.server
def test_a_warm_server_is_killed_and_comes_back(serve: Serve) -> None:
    """A shop beside the tests is born warm, and is a real server all the same: its port is free once it is killed."""
    first = serve("desk_server:app")
    assert (type(first), httpx.get(first.url + "/").status_code) == (WarmServer, 404)
    first.kill()
    assert first.exit_code == -9
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.url + "/")
    assert serve("desk_server:app", port=first.port).url == first.url


@pytest.mark.server
def test_a_killed_server_comes_back_at_its_address(serve: Serve, shop: dict[str, str]) -> None:
    """After a kill nobody answers; another process on the same port does."""
    first = serve("small_shop:app", env=shop)
    first.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.url + "/pid")
    second = serve("small_shop:app", env=shop, port=first.port)
    assert (second.url, httpx.get(first.url + "/pid").text.split()[0]) == (first.url, str(second.pid))


@pytest.mark.server
def test_a_server_that_cannot_start_shows_its_log(serve: Serve, shop: dict[str, str]) -> None:
    """An app that does not import is reported with the reason, at once."""
    with pytest.raises(NotReady, match="Attribute \"nothing\" not found"):
        serve("small_shop:nothing", env=shop)


@pytest.mark.server
def test_a_paused_server_keeps_its_clients_waiting(serve: Serve, shop: dict[str, str]) -> None:
    """A frozen process takes connections and says nothing; resumed, it answers."""
    server = serve("small_shop:app", env=shop)
    server.pause()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(server.url + "/pid", timeout=0.2)
    server.resume()
    assert httpx.get(server.url + "/pid").status_code == 200


@pytest.mark.server
def test_any_command_is_waited_for(spawn: Spawn) -> None:
    """`spawn` returns when the line has come, and keeps everything that was said."""
    process = spawn([sys.executable, "-c", "print('warming up'); print('ready at 7'); import signal; signal.pause()"], ready="ready")
    assert (process.ready_line, process.log, process.exit_code) == ("ready at 7\n", "warming up\nready at 7\n", None)
    assert process.stop() != 0


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.asyncio(loop_scope="session")
async def test_a_good_page_passes(serve: Serve, shop: dict[str, str], chromium: Chromium) -> None:
    """A plain page is accessible and fits a narrow phone, with and without scripts."""
    server = serve("small_shop:app", env=shop)
    for scripts in (True, False):
        page = await chromium.page(width=360, scripts=scripts, colours="dark")
        await page.goto(server.url + "/good")
        await assert_fits(page)
        assert await page.inner_text("h1") == "Fern"
    await page.close()


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.asyncio(loop_scope="session")
async def test_a_bad_page_is_caught(serve: Serve, shop: dict[str, str], chromium: Chromium) -> None:
    """A picture without words, no language, and a line three screens wide are each named."""
    server = serve("small_shop:app", env=shop)
    page = await chromium.page(width=360)
    await page.goto(server.url + "/good")
    await assert_accessible(page)
    await page.goto(server.url + "/bad")
    with pytest.raises(AssertionError, match=r"(?s)html-has-lang.*image-alt"):
        await assert_accessible(page)
    with pytest.raises(AssertionError, match=r"3\d\d\d px wide, and 360 px are seen"):
        await assert_fits(page)


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.asyncio(loop_scope="session")
async def test_what_the_policy_stops_is_kept(serve: Serve, shop: dict[str, str], chromium: Chromium) -> None:
    """An inline script under a strict policy becomes a fault, which fails the test that met it."""
    page = await chromium.page()
    await page.goto(serve("small_shop:app", env=shop).url + "/good?with=inline")
    assert any("Content Security Policy" in fault for fault in chromium.faults)
    chromium.faults.clear()


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_cannot_reach_others(chromium: Chromium) -> None:
    """Every address but loopback fails to resolve: a page that needs a third party breaks in the tests."""
    page = await chromium.page()
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        await page.goto("http://fern.example/")


SKIPPING = """
import pytest
@pytest.mark.browser
def test_browser():
    pytest.skip("no Chromium here")
@pytest.mark.server
@pytest.mark.skipif(True, reason="no server")
def test_server():
    pass
def test_plain():
    pytest.skip("not on this system")
"""


@pytest.mark.parametrize(("ci", "counts"), [("true", "1 failed, 1 skipped, 1 error"), ("", "3 skipped")])
def test_ci_does_not_skip_servers_and_browsers(tmp_path: Path, ci: str, counts: str) -> None:
    """Skipped on a laptop, failed in CI (in the test as before it); other skips stay skips."""
    assert counts in _run_pytest(tmp_path, SKIPPING, ci=ci)


def test_ci_does_not_skip_whole_files(tmp_path: Path) -> None:
    """A file that is skipped as a whole could hide anything."""
    content = "import pytest\npytest.skip('no driver', allow_module_level=True)\n"
    assert "1 error" in _run_pytest(tmp_path, content, ci="true")
    assert "1 skipped" in _run_pytest(tmp_path, content, ci="")


def _run_pytest(folder: Path, content: str, *, ci: str) -> str:
    (folder / "test_skipping.py").write_text(content)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT / 'tests'}\nmarkers =\n    server: s\n    browser: b\n")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-q", str(folder)]
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False).stdout


def test_two_servers_never_share_a_port() -> None:
    """A free port is held from the moment it is found."""
    from servers import listening

    with listening() as one, listening() as two:
        assert one.getsockname() != two.getsockname()
        with pytest.raises(OSError, match="in use"), socket.create_server(one.getsockname()):
            pass


def test_the_machinery_hides_our_settings_from_servers(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own CXGUARD_ variables do not reach a server of the tests, unless a test gives them."""
    monkeypatch.setenv("CXGUARD_SECRET", "mine")
    code = "import json, os; print(json.dumps({name: os.environ[name] for name in os.environ if name.startswith('CXGUARD_')}))"
    assert json.loads(spawn([sys.executable, "-c", code], ready="{", env={"CXGUARD_KEYS": "given"}).ready_line) == {"CXGUARD_KEYS": "given"}
