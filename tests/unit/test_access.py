import base64
import hashlib
import hmac
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput, Forbidden, Unauthorized
from avatar_stream.server.access import (
    ANYBODY,
    Access,
    allowed_origin,
    check_host,
    make_token,
    parse_tokens,
    require,
    require_instance,
)
from avatar_stream.server.rtc.turn import ice_servers, link_header

TEST_TIME = 1_800_000_000.0


def test_tokens_and_scopes() -> None:
    studio, line = make_token("studio", ["publish", "view"])
    watcher, other = make_token("watcher", ["view"])
    assert studio not in line
    access = Access(parse_tokens(f"# who\n{line}\n\n{other} # a comment\n"))
    caller = access.authenticate(f"Bearer {studio}", TEST_TIME)
    assert (caller.name, caller.scopes) == ("studio", frozenset({"publish", "view"}))
    assert access.authenticate(f"bearer  {watcher} ", TEST_TIME).name == "watcher"
    require(caller, "publish")
    with pytest.raises(Forbidden, match="admin"):
        require(caller, "admin")
    for bad in (
        None,
        "",
        "Bearer",
        f"Basic {studio}",
        "Bearer nonsense",
        f"Bearer {studio}x",
        "Bearer " + "x" * 9999,
    ):
        with pytest.raises(Unauthorized):
            access.authenticate(bad, TEST_TIME)


def test_without_tokens_anyone_may_do_anything() -> None:
    caller = Access([]).authenticate(None, TEST_TIME)
    for scope in ("publish", "view", "admin"):
        require(caller, scope)


def test_a_revoked_link_is_refused_and_a_new_one_works() -> None:
    access = Access(parse_tokens(make_token("a", ["admin"])[1]))
    links = [access.link(session, f"{session}-1", TEST_TIME + 60) for session in ("studio", "studio", "other")]
    watching = access.authenticate(f"Bearer {links[0]}", TEST_TIME)
    assert not access.void_reason(watching, TEST_TIME)
    access.revoke("studio-1")
    assert "revoked" in access.void_reason(watching, TEST_TIME)
    for link in links[:2]:
        with pytest.raises(Unauthorized, match="revoked"):
            access.authenticate(f"Bearer {link}", TEST_TIME)
    assert access.authenticate(f"Bearer {links[2]}", TEST_TIME).session == "other"
    assert (
        access.authenticate(f"Bearer {access.link('studio', 'studio-1', TEST_TIME + 60)}", TEST_TIME).session
        == "studio"
    )
    access.revoke("nobody's")
    assert not access.void_reason(access.authenticate(f"Bearer {links[2]}", TEST_TIME), TEST_TIME)


def test_a_link_is_not_valid_for_the_next_session_of_that_name() -> None:
    access = Access(parse_tokens(make_token("a", ["admin"])[1]))
    link = access.link("studio", "first", TEST_TIME + 60)
    caller = access.authenticate(f"Bearer {link}", TEST_TIME)
    require_instance(caller, "first")
    with pytest.raises(Unauthorized, match="has ended"):
        require_instance(caller, "second")
    access.end("first")
    assert "has ended" in access.void_reason(caller, TEST_TIME)
    access.link("studio", "second", TEST_TIME + 60)
    access.revoke("first")  # has no effect after the session's end
    with pytest.raises(Unauthorized, match="has ended"):
        access.authenticate(f"Bearer {link}", TEST_TIME)
    # Nothing is kept of an ended session; a token is valid for every session.
    access.end("second")
    assert not access._void
    assert not access.void_reason(ANYBODY, TEST_TIME)
    require_instance(ANYBODY, "any")


def test_a_link_is_for_one_session_and_expires() -> None:
    access = Access(parse_tokens(make_token("a", ["admin"])[1]))
    link = access.link("studio", "1a", TEST_TIME + 60)
    caller = access.authenticate(f"Bearer {link}", TEST_TIME)
    require(caller, "view", "studio")
    with pytest.raises(Forbidden, match="another session"):
        require(caller, "view", "other")
    with pytest.raises(Forbidden, match="publish"):
        require(caller, "publish", "studio")
    with pytest.raises(Unauthorized, match="over"):
        access.authenticate(f"Bearer {link}", TEST_TIME + 61)
    assert "over" in access.void_reason(caller, TEST_TIME + 61), "its viewers are disconnected, too"
    for bad in (
        link[:-1],
        link.replace("studio", "other"),
        link.replace("1a", "2a"),
        link.replace("v.", "v.."),
        "v.",
        "v.a.b.c",
        "v.a.b.c.d",
        "v.studio.1a.1.9.é",
    ):
        with pytest.raises(Unauthorized):
            access.authenticate(f"Bearer {bad}", TEST_TIME)
    with pytest.raises(Unauthorized):
        Access(parse_tokens(make_token("a", ["admin"])[1])).authenticate(
            f"Bearer {link}", TEST_TIME
        )  # another server's link


@given(st.text(max_size=600))
def test_arbitrary_authorization_headers_are_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        Access(parse_tokens(make_token("a", ["admin"])[1])).authenticate(text, TEST_TIME)


@pytest.mark.parametrize(
    "line", ["studio", "studio publish", "studio publish short", "studio fly " + "0" * 64, "A view " + "0" * 64]
)
def test_an_error_in_a_tokens_file_names_its_line(line: str) -> None:
    with pytest.raises(BadInput, match="line 2"):
        parse_tokens(f"# tokens\n{line}\n")


def test_the_token_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens.txt"
    assert main(["token", "studio", "--file", str(file)]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["token", "monitor", "--scopes", "admin", "--file", str(file)]) == 0
    assert Access(parse_tokens(file.read_text())).authenticate(f"Bearer {token}", time.time()).name == "studio"
    assert file.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert main(["token", "Studio One"]) == 2
    assert main(["token", "studio", "--scopes", "everything"]) == 2
    assert main(["token", "studio", "--file", str(tmp_path / "no" / "file")]) == 2
    assert all(line.startswith("avatar-stream: ") for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--host", "0.0.0.0"], "avatar-stream token"),
        (["--trust-proxy", "127.0.0.1"], "avatar-stream token"),
        (["--allow-host", "avatar.example"], "avatar-stream token"),
        (["--tokens", "/nowhere/tokens.txt"], "cannot read"),
        (["--turn", "turn:example.org"], "secret"),
        (["--turn", "example.org"], "not the address of a STUN or TURN server"),
        (["--turn", "turn:x", "--turn-secret-file", "/nowhere/secret"], "cannot read"),
        (["--certificate", "/nowhere/cert.pem"], "certificate"),
    ],
)
def test_serve_refuses_invalid_combinations_of_flags(
    flags: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--engine", "warp", "--port", "0", *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert word in error
    assert len(error.splitlines()) == 1


def test_a_short_token_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVATAR_STREAM_TOKEN", "short")
    assert main(["serve", "--engine", "warp", "--port", "0"]) == 2
    assert "20 characters" in capsys.readouterr().err


def test_allowed_host_headers() -> None:
    for fine in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "LOCALHOST"):
        check_host(fine, (), loopback=True)
    for foreign in ("evil.example", "localhost.evil.example:8080", "", "127.0.0.1.evil.example"):
        with pytest.raises(Forbidden, match="name"):
            check_host(foreign, (), loopback=True)
    check_host("anything", (), loopback=False)
    check_host("avatar.example:443", ("avatar.example",), loopback=False)
    check_host("127.0.0.1:8080", ("avatar.example",), loopback=False)  # a health check
    with pytest.raises(Forbidden):
        check_host("10.0.0.9", ("avatar.example",), loopback=False)


def test_allowed_origins() -> None:
    assert allowed_origin(None, "localhost:8080", ()) is None
    assert allowed_origin("http://localhost:8080", "localhost:8080", ()) is None
    assert allowed_origin("https://Avatar.example", "avatar.example", ()) is None
    assert (
        allowed_origin("https://studio.example", "avatar.example", ("https://studio.example",))
        == "https://studio.example"
    )
    for foreign in ("https://evil.example", "null", "http://localhost:9999", ""):
        with pytest.raises(Forbidden, match="sites"):
            allowed_origin(foreign, "localhost:8080", ())


def test_turn_credentials_match_coturns() -> None:
    (server, stun) = ice_servers(
        ("turn:t.example:3478?transport=udp", "stun:s.example"), "secret", 60, TEST_TIME, "studio"
    )
    assert server.username == f"{int(TEST_TIME) + 3600}:studio"
    mac = hmac.new(b"secret", server.username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(server.credential) == mac
    assert not stun.username
    assert link_header(stun) == '<stun:s.example>; rel="ice-server"'
