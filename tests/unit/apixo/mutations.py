"""JSON documents that are mutated as documents, then as bytes, and headers without sense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

from hypothesis import strategies as st

KEYS = (
    *(
        "code",
        "message",
        "data",
        "taskId",
        "state",
        "resultJson",
        "resultUrls",
        "failCode",
        "failMsg",
        "error",
    ),
    *("createTime", "completeTime", "images", "index", "schema", "purchases", "intent", "max_tries", ""),
)

NASTY = (
    *("null", "true", "false", "[]", "{}", "[null]", '[""]', "[[]]", '{"": null}', '{"a": 1, "a": 2}'),
    *("0", "-1", "-0.0", "1", "200", "299", "300", "402", "500", "100000", "200.0", "2e2", "1767965610929"),
    *("1e400", "-1e400", "1e-400", "1e308", "NaN", "Infinity", "-Infinity", "9" * 30, "0." + "1" * 5000),
    *("9" * 4300, "-" + "9" * 4300, "9" * 5000),
    *('""', '" "', '"200"', '"success"', '"failed"', '"SUCCESS "', '"processing_r2"', '"task_12345678"'),
    *('"NaN"', '"1e999999999"', '"-1e999999999"', '"0e999999999"', '"1e-999999999"', '"1_000"', '"٣"'),
    *(r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', r'"a\u0000b"', r'"\u001b[31m"', r'"\u202e"', r'"\\"'),
    *(
        '"<html>"',
        '"https://r2.apixo.ai/a.png"',
        '"javascript:alert(1)"',
        '"{}"',
        '"[]"',
        '"{\\"resultUrls\\""',
    ),
    *('["https://r2.apixo.ai/a.png"]', '{"resultUrls": ["a"]}', '{"code": 500}', '{"taskId": "x"}'),
    *("", ",", "}", "'a'", "undefined", "1 2", "// a", '"' + "9" * 5000 + '"'),
)
"""JSON text, or what is none, of a reasonable size."""

HUGE = (
    *("[" * depth + "]" * depth for depth in (50, 900, 990, 1000, 1100, 5000, 100_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (50, 900, 990, 1000, 1100, 5000)),
    *(f'"{"x" * 900_000}"', f'"{"é" * 100_000}"', "[" + "0," * 100_000 + "0]"),
)

SPLINTERS = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"),
    *(b'"', b"\\", b"\\u", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\x1b", b" " * 1000, b"<html>"),
    *(b"null", b"1e400", b"9" * 5000, b"[" * 1000, b'{"code":200,', b'"taskId":"x",', b"HTTP/1.1 200 OK\r\n"),
)

FOREIGN = (
    *(b"", b" ", b"null", b"[]", b"{}", b'""', b"200", b"OK", b"<html><h1>502 Bad Gateway</h1></html>"),
    *(b"\x1f\x8b\x08\x00", b"\xff" * 1000, b"{" * 100_000, b"x" * 1_000_000, b'{"detail":"Not Found"}'),
)

ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7")

HTTP_STATUSES = (
    *(200, 200, 200, 200, 200, 201, 204, 226, 301, 304, 307, 400, 401, 402, 403, 404, 408, 413, 425, 429),
    *(451, 499, 500, 502, 503, 504, 520, 599),
)

DATE_WORDS = (
    *("Mon", "Tue", "Wed,", "0", "1", "31", "32", "99", "Jan", "Feb", "Foo", "1969", "2026", "9999", "99999"),
    *("00:00:00", "24:61:61", ":::", "1:2", "GMT", "EST", "-0000", "+9999", "(", ")", ",", "٣"),
)


@st.composite
def mutated(draw: st.DrawFn, examples: list[str]) -> bytes:
    """One of the examples after a few mutations; or, one time in twenty, nothing of the kind.

    :param examples: JSON documents.
    """
    if one_in_twenty(draw):
        return draw(st.sampled_from(FOREIGN) | st.binary(max_size=200))
    encoding = draw(st.sampled_from(ENCODINGS)) if one_in_twenty(draw) else "utf-8"
    body = draw(documents(examples)).encode(encoding, "replace")
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        body = draw(damaged(body))
    return body


def retry_afters() -> st.SearchStrategy[str]:
    """``Retry-After`` headers: right, nearly right, and wrong."""
    words = st.lists(st.sampled_from(DATE_WORDS), max_size=8).map(" ".join)
    digits = st.text(st.characters(categories=["Nd", "No"]), max_size=12)
    dates = st.floats(-6e10, 2.5e11).map(lambda seconds: formatdate(seconds, usegmt=True))
    other = st.sampled_from(
        ["", "-5", "1e9", "nan", "inf", "0x10", "9" * 5000, "soon", "\0", "\ud800", "5, 7"]
    )
    return st.one_of(words, digits, dates, other, st.text(max_size=30), st.integers().map(str))


def one_in_twenty(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 19)) == 19


# --- as documents -------------------------------------------------------------------------------------


class Raw(str):
    """JSON text that is written as it stands."""

    __slots__ = ()


class Members(list["Member"]):
    """An object, which may repeat a key."""


class Member(list[Any]):
    """A key and a value."""


class Quoted(list[Any]):
    """JSON inside a JSON string, as in ``resultJson``."""


Slot = tuple[list[Any], int]
"""A place that holds a key or a value."""


def parse(text: str) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> Members:
        return Members(
            Member([key, Quoted([parse(value)]) if key == "resultJson" else value]) for key, value in pairs
        )

    return json.loads(text, object_pairs_hook=members)


def write(node: Any) -> str:
    match node:
        case Raw():
            return str(node)
        case Quoted():
            return json.dumps(write(node[0]))
        case Member():
            return f"{write(node[0])}: {write(node[1])}"
        case Members():
            return "{" + ", ".join(map(write, node)) + "}"
        case list():
            return "[" + ", ".join(map(write, node)) + "]"
    return json.dumps(node)


def parts(node: Any) -> Iterator[Any]:
    """A node and everything below it."""
    yield node
    if isinstance(node, list):
        for child in node:
            yield from parts(child)


def slots(root: Any) -> list[Slot]:
    lists = [node for node in parts(root) if isinstance(node, list) and not isinstance(node, Members)]
    return [(node, at) for node in lists for at in range(len(node))]


NASTY_VALUES = st.one_of(
    *[st.sampled_from(NASTY).map(Raw)] * 3, st.text(max_size=20), st.integers(), st.floats()
)
VALUES = st.integers(0, 19).flatmap(lambda n: st.sampled_from(HUGE).map(Raw) if n == 19 else NASTY_VALUES)
NAMES = st.one_of(*[st.sampled_from(KEYS)] * 3, st.text(max_size=8), st.sampled_from(NASTY).map(Raw))


@st.composite
def documents(draw: st.DrawFn, examples: list[str]) -> str:
    """An example with one to four keys, values or members changed."""
    root = [parse(draw(st.sampled_from(examples)))]
    for _ in range(draw(st.integers(1, 4))):
        objects = [node for node in parts(root) if isinstance(node, Members)]
        match draw(st.sampled_from(("value", "value", "value", "key", "swap", "remove", "repeat", "add"))):
            case "key" if members := [member for one in objects for member in one]:
                draw(st.sampled_from(members))[0] = draw(NAMES)
            case "remove" if filled := [one for one in objects if one]:
                one = draw(st.sampled_from(filled))
                del one[draw(st.integers(0, len(one) - 1))]
            case "repeat" if filled := [one for one in objects if one]:
                one = draw(st.sampled_from(filled))
                key = draw(st.sampled_from(one))[0]
                one.insert(draw(st.integers(0, len(one))), Member([key, draw(VALUES)]))
            case "add" if objects:
                draw(st.sampled_from(objects)).append(Member([draw(NAMES), draw(VALUES)]))
            case "swap":
                swap(draw(st.sampled_from(slots(root))), draw(st.sampled_from(slots(root))))
            case _:
                node, at = draw(st.sampled_from(slots(root)))
                node[at] = draw(VALUES)
    return write(root[0])


def swap(one: Slot, other: Slot) -> None:
    """Exchange what two places hold, unless one holds the other."""
    (node, at), (there, place) = one, other
    nested = any(part is there for part in parts(node[at])) or any(
        part is node for part in parts(there[place])
    )
    if not nested:
        node[at], there[place] = there[place], node[at]


# --- as bytes -----------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with one wound."""
    start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    before, piece, after = body[:start], body[start:end], body[end:]
    match draw(st.sampled_from(("cut", "drop", "insert", "repeat", "flip", "reverse"))):
        case "cut":
            return before
        case "drop":
            return before + after
        case "insert":
            return before + draw(st.sampled_from(SPLINTERS)) + piece + after
        case "repeat":
            return (before + piece + piece + after)[:1_000_000]
        case "flip":
            return (
                before
                + bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in piece[:1])
                + body[start + 1 :]
            )
    return before + piece[::-1] + after
