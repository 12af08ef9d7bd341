"""Customers' messages: which are about what, how many, and which orders they mention."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.files import Record, read_lines, write_json, write_lines
from pipelines.rejects import ACCEPTED, FETCHED, Reject, sort_out, tally

DATA = Path(__file__).parent.parent / "data"
PARSED = "work/parsed.jsonl"
REQUIRED = ("id", "customer", "received_at", "channel", "sender", "body")
TOPICS = {  # the first that matches wins
    "billing": re.compile(r"\b(invoice|payment|charged|refund)", re.IGNORECASE),
    "returns": re.compile(r"\b(return|broken|replacement)", re.IGNORECASE),
    "delivery": re.compile(r"\b(parcel|deliver|tracking)", re.IGNORECASE),
}
ORDER = re.compile(r"\bORD-[0-9]{5}\b")
QUOTED = re.compile(r"^(>.*|On .+ wrote:)$", re.MULTILINE)
CUSTOMER = re.compile(r'"customer"\s*:\s*"([a-z0-9_-]+)"')


@dataclass(frozen=True)
class Options:
    """What one run does. All of it comes from the tenant's configuration and flags."""

    customers: tuple[str, ...] | list[str] = ()  # none named: all
    parser: str = "v1"
    channels: tuple[str, ...] | list[str] = ("email", "chat", "web")
    max_body_chars: int = 5_000
    max_reject_share: float = 1.0
    source: str = "messages.jsonl"  # a path, seen from dags/data/


def fetch(options: Options, folder: Path) -> dict[str, Any]:
    """Read the customers' slice of the source, as it is there: nothing is judged yet."""
    return {"fetched": write_lines(folder / FETCHED, _slice(options))}


def validate(options: Options, folder: Path) -> dict[str, Any]:
    """Accept or reject each message."""
    return sort_out(folder, lambda fetched: check(fetched, options), max_share=options.max_reject_share)


def process(options: Options, folder: Path) -> dict[str, Any]:
    """Read out of each accepted message what it is about, with the parser that the flag chose."""
    parse = PARSERS[options.parser]
    return {"parsed": write_lines(folder / PARSED, (parse(message) for message in read_lines(folder / ACCEPTED)))}


def report(options: Options, folder: Path) -> dict[str, Any]:
    """Add everything up into `result.json`."""
    parsed = list(read_lines(folder / PARSED))
    result = {
        "pipeline": "messages",
        "parser": options.parser,
        **tally(folder, len(parsed)),
        **aggregate(parsed),
    }
    write_json(folder / "result.json", result)
    return {key: result[key] for key in ("read", "accepted", "rejected")}


STEPS: dict[str, Callable[[Options, Path], dict[str, Any]]] = {
    "fetch": fetch,
    "validate": validate,
    "process": process,
    "report": report,
}


def check(fetched: Record, options: Options) -> Record:
    """Return the message that a line holds. Raises Reject where it holds none that can be used."""
    try:
        message = json.loads(fetched["raw"])
    except (ValueError, RecursionError) as error:
        raise Reject(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Reject("not an object")
    for field in REQUIRED:
        if not isinstance(message.get(field), str) or not message[field].strip():
            raise Reject(f"missing field: {field} is absent, empty or no text")
    if not all(isinstance(size, int) for size in _attachment_sizes(message)):
        raise Reject("attachments: not a list of objects with a number of bytes")
    if message["channel"] not in options.channels:
        raise Reject(f"channel: {message['channel']} is none of {', '.join(options.channels)}")
    if len(message["body"]) > options.max_body_chars:
        raise Reject(f"too long: {len(message['body'])} characters, at most {options.max_body_chars}")
    return {**message, "received_at": _utc(message["received_at"])}


def parse_v1(message: Record) -> Record:
    """Take the body as it is."""
    return _parsed(message, message["body"])


def parse_v2(message: Record) -> Record:
    """Read only what the sender wrote, in one spelling of Unicode; and look at the attachments.

    A reply that quotes our reminder is not about billing, and an order number typed on a Japanese keyboard
    (full-width letters and digits) is an order number.
    """
    body = QUOTED.sub("", unicodedata.normalize("NFKC", message["body"]))
    sizes = _attachment_sizes(message)
    return {
        **_parsed(message, body),
        "is_reply": QUOTED.search(message["body"]) is not None,
        "attachments": len(sizes),
        "attachment_bytes": sum(sizes),
    }


PARSERS: dict[str, Callable[[Record], Record]] = {"v1": parse_v1, "v2": parse_v2}


def aggregate(parsed: list[Record]) -> dict[str, Any]:
    """Count what was parsed."""
    times = sorted(message["received_at"] for message in parsed)
    totals = {
        "by_customer": dict(Counter(message["customer"] for message in parsed)),
        "by_channel": dict(Counter(message["channel"] for message in parsed)),
        "by_topic": dict(Counter(message["topic"] for message in parsed)),
        "by_month": dict(Counter(message["received_at"][:7] for message in parsed)),
        "words": sum(message["words"] for message in parsed),
        "orders": len({order for message in parsed for order in message["orders"]}),
        "first_received_at": times[0] if times else None,
        "last_received_at": times[-1] if times else None,
    }
    # What only the newer parser finds is reported only where it ran: nought would claim that there was nothing.
    for field in ("is_reply", "attachments", "attachment_bytes"):
        if parsed and field in parsed[0]:
            totals["replies" if field == "is_reply" else field] = sum(message[field] for message in parsed)
    return totals


def _slice(options: Options) -> Iterator[Record]:
    # A byte that is no UTF-8 spoils its own line, which is no JSON then, rather than the run.
    with (DATA / options.source).open(encoding="utf-8", errors="backslashreplace") as lines:
        for number, line in enumerate(lines, start=1):
            raw = line.rstrip("\n")
            if raw and (not options.customers or _customer(raw) in options.customers):
                yield {"line": number, "raw": raw}


def _customer(raw: str) -> str | None:
    """Tell whose line this is, even if it is broken: a customer's broken message belongs to its own rejects."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        found = CUSTOMER.search(raw)
        return found[1] if found else None
    return message.get("customer") if isinstance(message, dict) else None


def _utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise Reject(f"bad timestamp: {text} has no time zone")
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise Reject(f"bad timestamp: {text}") from error


def _attachment_sizes(message: Record) -> list[Any]:
    files = message.get("attachments", [])
    return (
        [file.get("bytes") if isinstance(file, dict) else None for file in files] if isinstance(files, list) else [None]
    )


def _parsed(message: Record, body: str) -> Record:
    topics = (topic for topic, pattern in TOPICS.items() if pattern.search(body))
    return {
        **{field: message[field] for field in ("id", "customer", "channel", "received_at")},
        "topic": next(topics, "other"),
        "words": len(body.split()),
        "orders": sorted(set(ORDER.findall(body))),
    }
