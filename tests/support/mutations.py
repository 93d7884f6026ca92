"""Files that are nearly right: what is done to their bytes, and to the values of JSON and YAML."""

import copy
import json
import math
import os
import signal
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from core.errors import TTDError

SHARE = "TTD_FUZZ_SHARE"
SECONDS = 20  # within which a reader must come to an end, on a machine that is busy with other work
TOKENS = (
    *(
        b"",
        b"\0",
        b"\n",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"-",
        b"&a ",
        b"*a",
        b"!!python/",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"9" * 40,
        b"9" * 5000,
        b"0x1",
        b"1.5",
    ),
    *(b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80\x02", b"\xef\xbb\xbf"),
    *(
        "\u2028".encode(),
        "\x85".encode(),
        b"\\ud800",
        b"\xed\xa0\x80",
        b"\xfe",
        b"../../x",
        b"~nouser",
    ),
    *(
        b"2001-01-01",
        b"2001-99-99",
        b"[" * 2000,
        b"PK\x03\x04",
        b"\x89PNG\r\n\x1a\n",
        b"cos\nsystem\n",
    ),
)

# Training flushes subnormal numbers in its process, and hypothesis minds.
place = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
CHANGES = st.one_of(
    st.tuples(st.just("cut"), place, place),
    st.tuples(st.just("drop"), place, st.integers(1, 64)),
    st.tuples(st.just("repeat"), place, st.integers(1, 64)),
    st.tuples(st.just("byte"), place, st.integers(0, 255)),
    st.tuples(st.just("insert"), place, st.sampled_from(TOKENS)),
    st.tuples(st.just("over"), place, st.sampled_from(TOKENS)),
)
byte_changes = st.lists(CHANGES, min_size=1, max_size=4)


def changed(data, changes):
    """Bytes after a list of `CHANGES`; most act within the first 2,000 bytes, where headers are."""
    for number, (kind, where, what) in enumerate(changes):
        span = min(len(data), 2000) if number % 2 else len(data)
        at = int(where * span)
        if kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + what :]
        elif kind == "repeat":
            data = data[: at + what] + data[at:]
        elif kind == "byte":
            data = data[:at] + bytes([what]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + what + data[at:]
        else:
            data = data[:at] + what + data[at + len(what) :]
    return data


NAMES = (
    *(
        "",
        " ",
        ".",
        "..",
        "../../x",
        "/etc/x",
        "a/b",
        "~nouser",
        "-",
        "\0",
        "a\0b",
        "a\nb",
        "\u2028",
    ),
    *("a\u2028b", "\x85", "\ud800", "\udcff", "\x1b[2J", "x" * 300, "y/" * 2500, "é", "e\u0301"),
    *("con", "%s", "{0..99}", "*", "[", "1", "on", "null", "\u202e", "\ufeff", "🐕", "a#1"),
)
NUMBERS = (0, 1, -1, 255, 256, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, 1e-320)
ODD = (math.nan, math.inf, -math.inf, None, True, False, [], {}, [[]], [None], {"": 0})
leaves = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(NUMBERS), st.sampled_from(ODD), st.text(max_size=8)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
field_changes = st.lists(
    st.tuples(place, st.sampled_from(("set", "drop", "add", "rename")), values),
    min_size=1,
    max_size=3,
)


def places_in(content):
    """Every (container, key) of nested lists and dicts."""
    found, pending = [], [content]
    while pending:
        value = pending.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            found.append((value, key))
            if isinstance(value[key], dict | list):
                pending.append(value[key])
    return found


def altered(content, changes):
    """A copy of nested lists and dicts with some of their values set, dropped, added or renamed."""
    content = copy.deepcopy(content)
    for where, kind, given in changes:
        value = copy.deepcopy(given)  # put in twice, it would hold itself
        if not (known := places_in(content)):
            return value
        holder, key = known[int(where * len(known))]
        if kind == "set":
            holder[key] = value
        elif kind == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, value)
        elif kind == "rename":
            holder[str(value)[:20]] = holder.pop(key)
        else:
            holder["more"] = value
    return content


def json_bytes(content):
    """JSON as strangers write it: NaN and lone surrogates too."""
    return json.dumps(content).encode()


def scaled(count):
    """So many cases, or the share of them that TTD_FUZZ_SHARE names: CI takes a tenth."""
    return max(2, round(count * float(os.environ.get(SHARE, "1"))))


def examples(fast, slow=False):
    """Settings of hypothesis: the same `fast` examples always, or many new ones with `slow`.

    CI, which tries a share of them, tries the same ones every time.
    """
    return settings(
        max_examples=fast,
        derandomize=not slow or SHARE in os.environ,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Late(BaseException):
    """A hang. No `except Exception` on the way may take it for damage."""


@contextmanager
def in_time(seconds=SECONDS):
    """`Late` where the block takes longer: a hang."""

    def late(number, frame):
        raise Late(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(read, *arguments):
    """What a reader makes of its input: a value, or a TTDError of one line; nothing else passes."""
    try:
        with in_time():
            return read(*arguments)
    except TTDError as error:
        assert str(error).strip(), "an error without a message"
        return error
