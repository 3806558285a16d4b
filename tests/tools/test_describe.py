"""The command's work against a server on this machine that speaks chat completions as its script says."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the extra describe")

from vlbench.datasets.descriptions import Descriptions, read_descriptions
from vlbench.errors import ConfigError, DataError
from vlbench.tools.describe import describe

NAMES = ("run", "jump", "Pushing [something] from left to right")
KEY = "sk-test-3f9a1c7be2d84056"

Reply = Callable[["_Handler", str], None]
"""Answers a request that asks for the class named."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        asked = next(name for name in NAMES if f'"{name}"' in body["messages"][0]["content"])
        self.server.asked.append(asked)
        (self.server.script.pop(0) if self.server.script else good)(self, asked)

    def reply(self, status: int, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Gives one reply of the script a request, then good ones."""

    daemon_threads = True

    def __init__(self, *script: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def describe(self, out: Path, **options: Any) -> Descriptions:
        options = {"base_url": self.url, "model": "small", "progress": False, **options}
        return describe(options.pop("class_names", NAMES), out, **options)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept before its retries."""
    slept: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", slept.append)
    return slept


def sentences(kind: str, name: str, number: int = 2) -> list[str]:
    return [f"{kind} sentence {k} on {name}." for k in range(number)]


def answer(name: str, number: int = 2) -> dict[str, list[str]]:
    return {kind: sentences(kind, name, number) for kind in ("spatial", "temporal")}


def completion(text: object) -> dict[str, Any]:
    return {"model": "small-2026", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


def good(handler: _Handler, name: str) -> None:
    handler.reply(200, completion(json.dumps(answer(name))))


def saying(text: object) -> Reply:
    return lambda handler, name: handler.reply(200, completion(text))


def error(status: int, message: str = "no", **headers: str) -> Reply:
    return lambda handler, name: handler.reply(status, {"error": {"message": message}}, **headers)


def dropped(handler: _Handler, name: str) -> None:
    """Half an answer, then the end of the connection."""
    content = json.dumps(completion(json.dumps(answer(name)))).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def expected(number: int = 2) -> Descriptions:
    spatial, temporal = (tuple(tuple(sentences(kind, n, number)) for n in NAMES) for kind in ("spatial", "temporal"))
    return Descriptions(spatial, temporal)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


def everything_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


# ---- what is asked and what is kept ----


def test_asks_for_each_class_once_and_writes_readable_descriptions(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert server.describe(out) == read_descriptions(out, NAMES) == expected()
    assert server.asked == list(NAMES)
    for request in server.requests:
        assert (request["path"], request["model"], request["temperature"]) == ("/v1/chat/completions", "small", 0.0)
        assert request["key"] == f"Bearer {KEY}"
    assert sorted(path.name for path in out.iterdir()) == ["answers.jsonl", "spatial.json", "temporal.json"]


def test_records_what_was_asked_and_how_each_answer_came_about(server: Server, tmp_path: Path) -> None:
    server.script = [good, saying("no JSON")]
    server.describe(tmp_path, temperature=0.7)
    header, *answers = lines(tmp_path)
    assert header["settings"]["base_url"] == server.url
    assert (header["settings"]["model"], header["settings"]["temperature"]) == ("small", 0.7)
    assert header["settings"]["number"] == 2
    assert header["settings"]["class_names"] == list(NAMES)
    filled = header["settings"]["prompt"].format(action="run", number=2)
    assert server.requests[0]["messages"] == [{"role": "user", "content": filled}]
    assert [(line["label"], line["class"], line["attempts"]) for line in answers] == [
        (0, "run", 1),
        (1, "jump", 2),
        (2, NAMES[2], 1),
    ]
    assert all(line["model"] == "small-2026" and line["time"] >= header["begun"] for line in answers)


def test_number_and_temperature_reach_the_endpoint(server: Server, tmp_path: Path) -> None:
    server.script = [saying(json.dumps(answer(name, 4))) for name in NAMES]
    assert server.describe(tmp_path, number=4, temperature=None) == expected(4)
    assert "Write 4 sentences" in server.requests[0]["messages"][0]["content"]
    assert "temperature" not in server.requests[0]


def test_an_endpoint_without_a_key(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert server.describe(tmp_path) == expected()


def test_a_placeholder_key_is_not_struck_from_sentences(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "run")
    assert server.describe(tmp_path) == expected()


@pytest.mark.parametrize("text", ["```json\n{}\n```", "Here it is:\n{}", "  {}\n\n"])
def test_takes_an_object_out_of_a_fence_or_a_remark(server: Server, tmp_path: Path, text: str) -> None:
    server.script = [saying(text.replace("{}", json.dumps(answer(name)))) for name in NAMES]
    assert server.describe(tmp_path) == expected()
    assert server.asked == list(NAMES)


def test_a_reply_may_lack_the_models_name(server: Server, tmp_path: Path) -> None:
    choices = completion(json.dumps(answer("run")))["choices"]
    server.script = [lambda handler, name: handler.reply(200, {"choices": choices})]
    assert server.describe(tmp_path) == expected()
    assert lines(tmp_path)[1]["model"] is None


# ---- failures of the endpoint ----


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_the_endpoint_asks(server: Server, tmp_path: Path, pauses: list[float], status: int) -> None:
    server.script = [error(status, Retry_After="7")]
    assert server.describe(tmp_path) == expected()
    assert server.asked == ["run", *NAMES]
    assert pauses == [7.0]


def test_asks_again_after_a_dropped_connection(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.script = [good, dropped]
    assert server.describe(tmp_path) == expected()
    assert server.asked == ["run", "jump", *NAMES[1:]]
    assert len(pauses) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500])
def test_an_endpoint_that_stays_down_ends_the_call_and_keeps_the_rest(
    server: Server, tmp_path: Path, pauses: list[float], status: int
) -> None:
    server.script = [good, *[error(status, "out of order")] * 7]
    with pytest.raises(DataError, match=rf"class 'jump': no answer from {server.url}: .*out of order.*; .*kept in"):
        server.describe(tmp_path)
    assert len(pauses) == 6
    assert [line.get("class") for line in lines(tmp_path)] == [None, "run"]
    assert not (tmp_path / "spatial.json").exists()


def test_nothing_listens(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no answer from http://127\.0\.0\.1:9/v1: Connection error\. \(.*refused"):
        server.describe(tmp_path, base_url="http://127.0.0.1:9/v1")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_call_at_once(server: Server, tmp_path: Path, pauses: list[float], status: int) -> None:
    server.script = [error(status)]
    with pytest.raises(ConfigError, match=rf"refuses the key \({status}\); set a valid one in \$OPENAI_API_KEY"):
        server.describe(tmp_path)
    assert (len(server.asked), pauses) == (1, [])


def test_a_missing_key_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    server.script = [error(401)]
    with pytest.raises(ConfigError, match=r"wants a key \(401\); set a valid one in \$OPENAI_API_KEY"):
        server.describe(tmp_path)


def test_a_refused_request_ends_the_call_with_the_endpoints_reason(server: Server, tmp_path: Path) -> None:
    server.script = [error(404, "The model `small` does not exist")]
    with pytest.raises(ConfigError, match=r"model 'small': .*does not exist.*; check the model"):
        server.describe(tmp_path)
    assert len(server.asked) == 1
    assert server.describe(tmp_path, model="large") == expected(), "nothing was answered, so nothing stands in the way"


# ---- malformed answers ----

MALFORMED = {
    "text": ("Certainly! Running is fun.", "holds no valid JSON object"),
    "torn": ('{"spatial": ["a", "b"], "temporal": ["c", ', "holds no valid JSON object"),
    "nothing": (None, "holds no valid JSON object"),
    "no text": ([{"type": "text"}], "holds no valid JSON object"),
    "a kind is missing": ({"spatial": ["a", "b"]}, r"keys are \['spatial'\] instead"),
    "another kind": ({"spatial": ["a", "b"], "temporal": ["c", "d"], "note": ""}, "keys are .* instead"),
    "too few": ({"spatial": ["a"], "temporal": ["c", "d"]}, "'spatial' has 1 sentences instead of 2"),
    "too many": ({"spatial": ["a", "b"], "temporal": ["c", "d", "e"]}, "'temporal' has 3 sentences instead of 2"),
    "empty": ({"spatial": ["a", " "], "temporal": ["c", "d"]}, "'spatial' has an empty sentence"),
    "two lines": ({"spatial": ["a", "b"], "temporal": ["c\nc", "d"]}, "'temporal' has a sentence with a line break"),
    "half a character": ({"spatial": ["a", "b\ud83d"], "temporal": ["c", "d"]}, "or a control character"),
    "twice": ({"spatial": ["a", "a "], "temporal": ["c", "d"]}, "'spatial' has the same sentence twice"),
    "a string": ({"spatial": "ab", "temporal": ["c", "d"]}, "'spatial' is no list of strings"),
    "numbers": ({"spatial": [1, 2], "temporal": ["c", "d"]}, "'spatial' is no list of strings"),
}


@pytest.mark.parametrize(("text", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_answers(server: Server, tmp_path: Path, text: object, problem: str) -> None:
    malformed = saying(json.dumps(text) if isinstance(text, dict) else text)
    server.script = [good, malformed, malformed, malformed]
    with pytest.raises(
        DataError, match=rf"class 'jump': 3 answers of small are malformed; of the last one,.*{problem}"
    ):
        server.describe(tmp_path)
    assert server.asked == ["run", "jump", "jump", "jump"]
    assert lines(tmp_path)[1]["class"] == "run"


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_reply_that_is_no_completion_counts_as_malformed(server: Server, tmp_path: Path, kind: str) -> None:
    def reply(body: bytes) -> Reply:
        return lambda handler, name: handler.reply(200, body, Content_Type=kind)

    first, second = [b"{", b"<html>busy</html>"], [b"[]", b'{"choices": null}']
    third = [b'{"choices": []}', b"\xff"]
    server.script = [*map(reply, first), good, *map(reply, second), good, *map(reply, third), good]
    assert server.describe(tmp_path) == expected()
    assert server.asked == [name for name in NAMES for _ in range(3)]


def test_goes_on_after_malformed_answers(server: Server, tmp_path: Path) -> None:
    server.script = [good, *[saying("no")] * 3]
    with pytest.raises(DataError):
        server.describe(tmp_path)
    server.script = [saying("no")] * 2
    assert server.describe(tmp_path) == expected()
    assert server.asked[4:] == ["jump", "jump", *NAMES[1:]]


def test_the_second_question_says_what_was_wrong_with_the_first_answer(server: Server, tmp_path: Path) -> None:
    server.script = [saying(json.dumps(answer("run", 3)))]
    server.describe(tmp_path)
    first, second, third = (request["messages"][0]["content"] for request in server.requests[:3])
    assert second.startswith(first)
    assert "'spatial' has 3 sentences instead of 2" in second
    assert "could not be used" not in third


# ---- interruption ----


@pytest.fixture
def interrupted(server: Server, tmp_path: Path) -> Server:
    """Two of three classes are answered."""
    server.script = [good, good, error(400)]
    with pytest.raises(ConfigError):
        server.describe(tmp_path)
    server.asked.clear()
    return server


def test_each_answer_is_on_the_disk_before_the_next_question(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    seen = []

    def looking(handler: _Handler, name: str) -> None:
        text = (tmp_path / "answers.jsonl").read_bytes()
        seen.append((text.count(b"\n"), len(text) == synced[-1]))
        good(handler, name)

    server.script = [looking] * 3
    server.describe(tmp_path)
    assert seen == [(1, True), (2, True), (3, True)]


def test_a_second_call_asks_for_missing_classes_only(interrupted: Server, tmp_path: Path) -> None:
    assert interrupted.describe(tmp_path, base_url=interrupted.url + "/") == expected()
    assert interrupted.asked == [NAMES[2]]


def test_a_finished_folder_needs_no_endpoint(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.describe(tmp_path)
    (tmp_path / "temporal.json").unlink()
    monkeypatch.setitem(sys.modules, "openai", None)
    assert server.describe(tmp_path) == expected()
    assert server.asked == list(NAMES)


def test_killed_at_any_byte_nothing_that_was_whole_is_asked_again(interrupted: Server, tmp_path: Path) -> None:
    whole = (tmp_path / "answers.jsonl").read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {0, 1, *(end + shift for end in ends for shift in (-40, -1, 0, 1, 40) if end + shift <= len(whole))}:
        (tmp_path / "answers.jsonl").write_bytes(whole[:cut])
        (tmp_path / "spatial.json").unlink(missing_ok=True)
        interrupted.asked.clear()
        assert interrupted.describe(tmp_path) == expected()
        kept = max(0, sum(end <= cut for end in ends) - 1)
        assert interrupted.asked == list(NAMES[kept:])
        assert [line.get("class") for line in lines(tmp_path)] == [None, *NAMES]


def test_a_deleted_line_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.describe(tmp_path)
    text = (tmp_path / "answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers.jsonl").write_text("".join(text[:2] + text[3:]))
    better = {"spatial": ["better", "still"], "temporal": ["by", "far"]}
    server.script = [saying(json.dumps(better))]
    assert server.describe(tmp_path).spatial == (
        tuple(sentences("spatial", "run")),
        ("better", "still"),
        *expected().spatial[2:],
    )


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"model": "large"}, "model 'small', now 'large'"),
        ({"temperature": 1.0}, r"temperature 0\.0, now 1\.0"),
        ({"temperature": None}, r"temperature 0\.0, now None"),
        ({"number": 4}, "number 2, now 4"),
        ({"base_url": "http://elsewhere/v1"}, "base_url 'http://127.*', now 'http://elsewhere/v1'"),
        ({"class_names": ("run", "jump")}, r"class_names \['run', 'jump', .*\], now \['run', 'jump'\]"),
        ({"model": "large", "number": 1}, "model 'small', now 'large'; number 2, now 1"),
    ],
)
def test_refuses_to_mix_settings(interrupted: Server, tmp_path: Path, options: dict[str, Any], difference: str) -> None:
    before = (tmp_path / "answers.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=rf"begun with {difference}; go on with the former settings, or give another"):
        interrupted.describe(tmp_path, **options)
    assert interrupted.asked == []
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_refuses_to_mix_prompts(interrupted: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlbench.tools.describe.PROMPT", "Tell me about {action}, {number} times.")
    with pytest.raises(ConfigError, match="begun with prompt '"):
        interrupted.describe(tmp_path)


@pytest.mark.parametrize(
    ("line", "content", "problem"),
    [
        (1, "{}", "line 1, holds no settings"),
        (1, '{"settings": 3}', "line 1, holds no settings"),
        (2, "\0\0\0", "line 2, is no answer"),
        (2, "[]", "line 2, is no answer"),
        (3, json.dumps({"label": 7, "class": "run", **answer("run")}), "line 3, is no answer.*class 7 is not 'run'"),
        (3, json.dumps({"label": 1, "class": "run", **answer("run")}), "line 3, is no answer.*class 1 is not 'run'"),
        (3, json.dumps({"label": 1, "class": "jump", **answer("jump", 3)}), "line 3, is no answer.*3 sentences"),
    ],
)
def test_refuses_a_damaged_line(interrupted: Server, tmp_path: Path, line: int, content: str, problem: str) -> None:
    path = tmp_path / "answers.jsonl"
    text = path.read_text().splitlines()
    text[line - 1] = content
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(DataError, match=problem):
        interrupted.describe(tmp_path)
    assert path.read_text().splitlines() == text


def test_refuses_to_replace_descriptions_from_elsewhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "temporal.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds temporal\.json from elsewhere"):
        server.describe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["temporal.json"]


def test_two_processes_do_not_write_to_one_folder(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "answers.jsonl").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="another process writes to"):
            server.describe(tmp_path)
    assert server.asked == []


# ---- the key ----


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_an_endpoint_that_echoes_the_key_does_not_spread_it(
    server: Server,
    tmp_path: Path,
    status: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [good, *[error(status, f"headers: Authorization: Bearer {KEY}")] * 7]
    with pytest.raises((ConfigError, DataError)) as raised:
        server.describe(tmp_path, progress=True)
    assert server.requests[0]["key"] == f"Bearer {KEY}"
    output = capfd.readouterr()
    for place in (
        everything_in(tmp_path),
        caplog.text,
        output.out,
        output.err,
        "".join(traceback.format_exception(raised.value)),
    ):
        assert KEY not in place


def test_a_key_inside_answers_is_struck(server: Server, tmp_path: Path) -> None:
    leaking = completion(json.dumps({"spatial": [f"Bearer {KEY}", "b"], "temporal": ["c", "d"]}))
    server.script = [lambda handler, name: handler.reply(200, {**leaking, "model": KEY})]
    server.describe(tmp_path)
    assert lines(tmp_path)[1]["model"] == "***"
    assert KEY not in everything_in(tmp_path)


def test_a_key_inside_malformed_answers_is_struck(server: Server, tmp_path: Path) -> None:
    server.script = [saying(f"your key is {KEY}")] * 3
    with pytest.raises(DataError, match=r"your key is \*\*\*"):
        server.describe(tmp_path)


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", "sk-schlüssel"])
def test_a_key_that_fits_no_header_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match=r"\$OPENAI_API_KEY holds a line break") as raised:
        server.describe(tmp_path)
    assert key not in str(raised.value)
    assert server.asked == []


# ---- options ----


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@h/v1", "http://hunter2@h/v1", "http://h/v1?key=hunter2", "http://h#hunter2"]
)
def test_refuses_credentials_in_the_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="base_url holds a user, a query or a fragment") as raised:
        describe(NAMES, tmp_path / "out", base_url=url, model="small")
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "url", ["", "localhost:8000/v1", "ftp://h/v1", "http:///v1", "http://h:x/v1", "http://[h/v1", "http://a b/v1"]
)
def test_refuses_what_is_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"base_url is '.*'; allowed: http\(s\)://HOST"):
        describe(NAMES, tmp_path, base_url=url, model="small")


def test_refuses_no_sentences(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="number is 0; allowed: 1 to 100"):
        server.describe(tmp_path, number=0)


def test_names_the_extra_that_is_missing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlbench\[describe\]'"):
        server.describe(tmp_path)
