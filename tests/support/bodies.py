"""Bodies of requests by chance, as clients send them and as nobody should."""

import json
import random
from collections.abc import Callable

import httpx

# Pieces of texts: plain, of every direction and width, and what breaks those who take bytes.
TEXTS = [
    "I see trees.", "we want bread?", "\n", "\r\n", "\t", " ", "\0", "\x1b[31m", "\x7f", "\x85",
    "\u2028", "\ufeff", "\u200b", "\u202e", "مرحبا بالعالم", "שלום", "木の下", "é", "e\u0301" * 9,
    "🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "\U0010ffff", "\ufffe", "<eos>", "<unk>", "<p>", "&amp;", "&#0;",
    "%00", "'; DROP TABLE", "${x}", "{{x}}", "../../etc/passwd", "a" * 300, "1e999", "NaN", "\\",
    '"', "ﷺ", "ß", "İ", "ǆ", "\ue000",
]  # fmt: skip
ODD = [
    "null", "true", "0", "-1", "1.5", "1e400", "NaN", "Infinity", "-Infinity", "[]", "{}", '""',
    "[[]]", "[null]", '[{"q": 1}]', '"\\ud800"', '"\\udfff\\ud800"', '["\\ud83d", "\\ude42"]',
    '"\\u0000"', "9" * 400, '"' + "x" * 3000 + '"', "18446744073709551616", "tru", "'q'",
]  # fmt: skip
KINDS = [
    "application/json", "application/json; charset=utf-16", "text/plain", "application/xml", "",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=",
    "multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "y" * 100, "*/*", ";;;",
    "application/json; charset=nosuch", "multipart/form-data; boundary=x; charset=nosuch",
    "APPLICATION/JSON", "application/x-www-form-urlencoded; charset=\xff",
]  # fmt: skip
FIELDS = ["q", "source", "target", "format", "alternatives", "api_key", "beam", "n_best", "seed",
          "temperature", "top_k", "top_p", "length_penalty", "unknown", "extra"]  # fmt: skip

Body = tuple[bytes, str]  # and its content type


def text(chance: random.Random) -> str:
    return "".join(chance.choices(TEXTS, k=chance.randrange(1, 6)))


def value(chance: random.Random, field: str) -> str:
    """A value of a field as JSON, most often a fitting one."""
    if chance.random() < 0.06:
        return chance.choice(ODD)
    fitting: dict[str, Callable[[], object]] = {
        "q": lambda: text(chance) if chance.random() < 0.7 else [text(chance) for _ in range(3)],
        "source": lambda: chance.choice(["en", "en", "auto", "auto", "x"]),
        "target": lambda: chance.choice(["fr"] * 9 + ["en"]),
        "format": lambda: chance.choice(["text", "html"]),
        "alternatives": lambda: chance.randrange(-1, 4),
        "unknown": lambda: chance.choice(["mark", "copy", "avoid", "no"]),
        "api_key": lambda: text(chance),
        "seed": lambda: chance.randrange(3),
        "extra": lambda: text(chance),
    }
    made = fitting.get(field, lambda: chance.choice([1, 2, 3, 0.5]))()
    return json.dumps(made, ensure_ascii=chance.random() < 0.5)


def as_json(chance: random.Random) -> Body:
    few = ["q", "source", "target"]
    fields = few + chance.choices(FIELDS, k=chance.choice([0, 0, 1, 3]))  # some of them twice
    if chance.random() < 0.1:
        fields.remove(chance.choice(few))
    body = ", ".join(f'"{field}": {value(chance, field)}' for field in fields)
    return f"{{{body}}}".encode("utf-8", "surrogatepass"), "application/json"


def cut_off(chance: random.Random) -> Body:
    body, kind = chance.choice([as_json, as_form, as_parts])(chance)
    return body[: chance.randrange(len(body))], kind


def bytes_changed(chance: random.Random) -> Body:
    body, kind = chance.choice([as_json, as_form, as_parts])(chance)
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed), kind


def of_another_kind(chance: random.Random) -> Body:
    return chance.choice([as_json, as_form, as_parts, noise])(chance)[0], chance.choice(KINDS)


def noise(chance: random.Random) -> Body:
    return chance.randbytes(chance.randrange(300)), chance.choice(KINDS)


def deep(chance: random.Random) -> Body:
    depth = chance.choice([100, 5_000, 60_000])
    opened, closed = chance.choice([("[", "]"), ('{"q":', "}"), ('{"a":[', "]}")])
    end = closed * depth if chance.random() < 0.5 else ""
    body = opened * depth + end
    return f'{{"q": {body}}}'[:140_000].encode(), "application/json"


def huge(chance: random.Random) -> Body:
    size = chance.choice([9_000, 30_000, 140_000, 200_000])
    piece = chance.choice(TEXTS)
    long = (piece * size)[:size]
    body = json.dumps({"q": long, "source": "en", "target": "fr"}, ensure_ascii=False)
    return body.encode("utf-8", "surrogatepass"), "application/json"


def as_form(chance: random.Random) -> Body:
    fields = ["q", "source", "target", *chance.choices(FIELDS, k=chance.randrange(3))]
    spelt = [
        f"{field}={httpx.QueryParams({'': value(chance, field).strip(chr(34))})}".replace("==", "=")
        for field in fields
    ]
    odd = chance.choice(["", "", "&", "&&", "&q", "=", "&%", "&q=%ED%A0%80", "&q=%FF%FE", "&q=%0"])
    return ("&".join(spelt) + odd).encode(), "application/x-www-form-urlencoded"


def as_parts(chance: random.Random) -> Body:
    fields = ["q", "source", "target", *chance.choices(FIELDS, k=chance.randrange(3))]
    parts = []
    for field in fields:
        file = '; filename="a.txt"' if chance.random() < 0.1 else ""
        kind = "\r\nContent-Type: text/plain; charset=utf-16" if chance.random() < 0.1 else ""
        content = value(chance, field).strip('"')
        head = f'Content-Disposition: form-data; name="{field}"{file}{kind}'
        parts.append(f"--x\r\n{head}\r\n\r\n{content}\r\n")
    body = "".join(parts) + chance.choice(["--x--\r\n", "--x--", "", "--y--", "--x\r\n\r\n"])
    return body.encode("utf-8", "surrogatepass"), "multipart/form-data; boundary=x"


MAKERS = [as_json] * 8 + [as_form, as_parts] * 3 + [cut_off, bytes_changed, of_another_kind] * 2
RARE = [noise, deep, huge]
