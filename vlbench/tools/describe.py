"""Asks a language model for class descriptions, at any endpoint that speaks OpenAI's chat completions.

`answers.jsonl` holds what was asked for on its first line and a class on every other one, each on the disk before the
next is asked for. `spatial.json` and `temporal.json` (see `vlbench.datasets.descriptions`) are made from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from rich.progress import track

from vlbench.datasets.descriptions import Descriptions, read_descriptions, sentences_json
from vlbench.errors import ConfigError, DataError, VlbenchError
from vlbench.files import write_atomically
from vlbench.ranges import Range

if TYPE_CHECKING:
    from openai import APIError

PROMPT = """\
Describe the action "{action}" for a system that recognises actions in videos.
Write {number} sentences of each of two kinds.
spatial: what one still frame shows while the action takes place: the scene, the objects, the posture of the body.
temporal: how the action unfolds over time: its movements, in their order.
Every sentence is in English, names the action, is understood without the others, has at most 18 words and stands on \
one line; no two are alike.
Answer with one JSON object and nothing else: {{"spatial": [{number} strings], "temporal": [{number} strings]}}"""

_REFUSED = "\n\nAn earlier answer could not be used: {problem}. Keep to the form."

_KEY_VARIABLE = "OPENAI_API_KEY"
_SHORTEST_SECRET = 8  # characters; shorter keys are placeholders for local servers, such as "none", and real words
_KINDS = ("spatial", "temporal")
_ATTEMPTS = 3  # answers a class before a model that does not keep to the form is given up
_RETRIES = 6  # of a request, by the client: about 20 seconds of growing pauses, or what Retry-After asks for
_TIMEOUT = 300.0  # seconds without a byte; an answer comes in one piece, and local models can take minutes for it

Answer = dict[str, list[str]]


@dataclass(frozen=True)
class _Settings:
    """What determines the answers; a folder holds answers to one of these only."""

    base_url: str
    model: str
    temperature: float | None
    number: int
    prompt: str
    class_names: list[str]

    def __post_init__(self) -> None:
        Range(1, 100).check("number", self.number)
        Range(0, 100).check("temperature", self.temperature, "the endpoint's")
        _check_url(self.base_url)


def describe(
    class_names: Sequence[str],
    out: Path,
    *,
    base_url: str,
    model: str,
    number: int = 2,
    temperature: float | None = 0.0,
    progress: bool = True,
) -> Descriptions:
    """Writes spatial and temporal sentences on every class to `out/spatial.json` and `out/temporal.json`.

    A call that was interrupted can be repeated: classes in `out/answers.jsonl` are not asked for again. Deleting a
    class's line there has it asked for anew. The key is taken from `$OPENAI_API_KEY`, is sent to `base_url` and
    written nowhere; an endpoint that wants none needs no variable.

    Args:
        class_names: The dataset's classes in label order, as they enter the prompt.
        out: Folder, made if missing.
        base_url: The endpoint up to the part that ends in `/v1`, such as http://localhost:8000/v1.
        model: Name of the language model at the endpoint.
        number: Sentences of each kind a class.
        temperature: Temperature of sampling; `None` leaves it to the endpoint, as models that take no temperature need.
        progress: Whether to show a progress bar.

    Returns:
        The descriptions, read back from the files.

    Raises:
        ConfigError: If an option, the key or the model is refused, the folder holds answers to other settings or
            descriptions from elsewhere, another process writes to it, or the client is not installed.
        DataError: If the endpoint gives no answer or only malformed ones, or a line of the answers is damaged.
    """
    settings = _Settings(base_url.rstrip("/"), model, temperature, number, PROMPT, list(class_names))
    with _answers(out, settings) as (file, answers):
        missing = [label for label in range(len(class_names)) if label not in answers]
        if missing:
            endpoint = _Endpoint(
                settings, f"finished classes are kept in {out}; the same command goes on with the others"
            )
            for label in track(missing, "describing classes", disable=not progress):
                answers[label], details = endpoint.describe(class_names[label])
                _append(file, {"label": label, "class": class_names[label], **answers[label], **details})
        for kind in _KINDS:
            content = sentences_json([answers[label][kind] for label in range(len(class_names))])
            write_atomically(out / f"{kind}.json", content)
    return read_descriptions(out, class_names)


# The endpoint --------------------------------------------------------------------------------------------------------


class _Endpoint:
    """A model behind an address. The key leaves it in requests only: all text that comes back is cleared of it.

    Args:
        settings: Endpoint, model and options of the requests.
        kept: End of an error's message, on what is not lost.
    """

    def __init__(self, settings: _Settings, kept: str) -> None:
        self.settings = settings
        self.kept = kept
        self.key = _read_key()
        try:
            from openai import OpenAI
        except ImportError as error:
            raise ConfigError(
                "descriptions are asked for with the openai client, which is missing: pip install 'vlbench[describe]'"
            ) from error
        self.client = OpenAI(
            base_url=settings.base_url, api_key=self.key or "none", max_retries=_RETRIES, timeout=_TIMEOUT
        )

    def describe(self, action: str) -> tuple[Answer, dict[str, object]]:
        """The sentences on a class, and how they came about."""
        prompt = self.settings.prompt.format(action=action, number=self.settings.number)
        refused = ""  # says what was wrong: at temperature 0 the same question would get the same answer
        for attempt in range(1, _ATTEMPTS + 1):
            text, model = self._complete(prompt + refused, action)
            try:
                answer = _parse(text, self.settings.number)
            except ValueError as error:
                refused = _REFUSED.format(problem=(problem := str(error)))
            else:
                return answer, {"model": model, "attempts": attempt, "time": _now()}
        raise DataError(
            f"class {action!r}: {_ATTEMPTS} answers of {self.settings.model} are malformed; of the last one, {problem},"
            f" from {text[:200]!r}; {self.kept}, or try another model in another folder"
        )

    def _complete(self, prompt: str, action: str) -> tuple[str, str | None]:
        """Text of one completion, empty if the reply is none, and the model that the endpoint says it is from."""
        from openai import APIError, omit

        temperature = self.settings.temperature
        try:
            reply = self.client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=omit if temperature is None else temperature,
            )
            model = getattr(reply, "model", None)
            return self._cleared(reply.choices[0].message.content or ""), model and self._cleared(model)
        except APIError as error:
            # `from None`: a traceback would print the client's own message, which may quote the request's headers.
            raise self._failure(error, action) from None
        except (AttributeError, LookupError, TypeError, ValueError):  # the client does not validate what it receives
            return "", None

    def _failure(self, error: APIError, action: str) -> VlbenchError:
        url, status = self.settings.base_url, getattr(error, "status_code", None)
        if status in (401, 403):
            problem = "refuses the key" if self.key else "wants a key"
            return ConfigError(f"{url} {problem} ({status}); set a valid one in ${_KEY_VARIABLE}")
        cause = self._cleared(f"{error.message} ({error.__cause__})" if error.__cause__ else error.message)
        if status is not None and status < 500 and status not in (408, 409, 429):
            return ConfigError(
                f"{url} refuses the request to model {self.settings.model!r}: {cause}; check the model, the address and"
                f" whether the model takes a temperature ({self.settings.temperature}; null sends none)"
            )
        return DataError(f"class {action!r}: no answer from {url}: {cause}; {self.kept}")

    def _cleared(self, text: str) -> str:
        return text.replace(self.key, "***") if len(self.key) >= _SHORTEST_SECRET else text


def _read_key() -> str:
    key = os.environ.get(_KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"${_KEY_VARIABLE} holds a line break or another character that no header takes; set it again"
        )
    return key


def _check_url(url: str) -> None:
    if any(sign in url for sign in "@?#"):  # not repeated here: it may hold a password
        raise ConfigError(
            "base_url holds a user, a query or a fragment; allowed: http(s)://HOST[:PORT]/PATH. It is recorded, so"
            f" credentials belong in ${_KEY_VARIABLE}"
        )
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and len(url.split()) == 1
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"base_url is {url!r}; allowed: http(s)://HOST[:PORT]/PATH, such as http://localhost:8000/v1")


# Answers -------------------------------------------------------------------------------------------------------------


def _parse(text: str, number: int) -> Answer:
    """The answer in a model's text, which may surround the JSON object with a code fence or a remark.

    Raises:
        ValueError: If it is malformed; the message says how.
    """
    try:
        values = json.loads(text[text.find("{") : text.rfind("}") + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it holds no valid JSON object ({error})") from error
    if set(values) != set(_KINDS):
        raise ValueError(f"its keys are {reprlib.repr(list(values))} instead of 'spatial' and 'temporal'")
    return _checked(values, number)


def _checked(values: dict[str, object], number: int) -> Answer:
    """The sentences of both kinds without surrounding blanks.

    Raises:
        ValueError: If one is missing, too much, empty, not on one line or there twice.
    """
    return {kind: _sentences(kind, values.get(kind), number) for kind in _KINDS}


def _sentences(kind: str, value: object, number: int) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(sentence, str) for sentence in value):
        raise ValueError(f"{kind!r} is no list of strings")
    sentences = [sentence.strip() for sentence in value]
    if len(sentences) != number:
        raise ValueError(f"{kind!r} has {len(sentences)} sentences instead of {number}")
    if "" in sentences:
        raise ValueError(f"{kind!r} has an empty sentence")
    if not all(sentence.isprintable() for sentence in sentences):
        raise ValueError(f"{kind!r} has a sentence with a line break or a control character")
    if len(set(sentences)) != number:
        raise ValueError(f"{kind!r} has the same sentence twice")
    return sentences


# The file of answers -------------------------------------------------------------------------------------------------


@contextmanager
def _answers(out: Path, settings: _Settings) -> Iterator[tuple[BinaryIO, dict[int, Answer]]]:
    """The file to append to, locked, and the answers in it by label."""
    path = out / "answers.jsonl"
    foreign = [name for kind in _KINDS if (out / (name := f"{kind}.json")).exists()]
    if foreign and not path.exists():
        raise ConfigError(f"{out} holds {foreign[0]} from elsewhere, which would be replaced; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except BlockingIOError as error:
            raise ConfigError(
                f"another process writes to {path}; wait until it has finished or give another folder"
            ) from error
        file.seek(0)
        *lines, torn = file.read().split(b"\n")
        file.truncate(file.tell() - len(torn))  # what a killed process did not finish writing
        if len(lines) < 2:  # no answer, so nothing that other settings could contradict
            file.truncate(0)
            _append(file, {"settings": asdict(settings), "begun": _now()})
            yield file, {}
        else:
            _check_settings(path, lines[0], settings)
            yield file, dict(_read_answer(path, n, line, settings) for n, line in enumerate(lines[1:], start=2))


def _append(file: BinaryIO, values: dict[str, object]) -> None:
    file.write(json.dumps(values).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _check_settings(path: Path, line: bytes, settings: _Settings) -> None:
    try:
        begun = dict(json.loads(line)["settings"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{path}, line 1, holds no settings: {error!r}; give another folder to begin anew") from error
    different = [
        f"{name} {reprlib.repr(begun.get(name))}, now {reprlib.repr(value)}"
        for name, value in asdict(settings).items()
        if begun.get(name) != value
    ]
    if different:
        raise ConfigError(
            f"{path} was begun with {'; '.join(different)}; go on with the former settings, or give another folder"
        )


def _read_answer(path: Path, number: int, line: bytes, settings: _Settings) -> tuple[int, Answer]:
    try:
        values = json.loads(line)
        label, name = values["label"], values["class"]
        if dict(enumerate(settings.class_names)).get(label) != name:
            raise ValueError(f"class {label} is not {name!r}")
        return label, _checked(values, settings.number)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}, is no answer: {error!r}; delete the line, and its class is asked for again"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
