from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from pipelines.files import read_json, read_lines
from pipelines.messages import Options, check, parse_v1, parse_v2
from pipelines.rejects import Reject

from .conftest import DAGS, RunPipeline

GOOD = {
    "id": "acm-1",
    "customer": "acme",
    "received_at": "2024-01-02T10:00:00+02:00",
    "channel": "email",
    "sender": "mara@acme.example",
    "body": "Where is ORD-12345?",
}


def line(**changes: Any) -> dict[str, Any]:
    message = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    return {"line": 1, "raw": json.dumps(message)}


def good_ids(customer: str) -> set[str]:
    """Find the customer's good messages in the raw data, by other means than the pipeline's."""
    ids = set()
    for raw in (DAGS / "data" / "messages.jsonl").read_text(encoding="utf-8").splitlines():
        # The spoiled messages of the sample have numbers from 90000 on: that is how the sample was made.
        start = raw.find('"id": "') + 7
        if f'"customer": "{customer}"' in raw and int(raw[start + 4 : start + 9]) < 90_000:
            ids.add(raw[start : start + 9])
    return ids


@pytest.mark.parametrize(("customer", "expected"), [("acme", 150), ("globex", 120), ("initech", 100), ("umbrella", 80)])
def test_every_good_message_of_the_customer_counts_once(
    run_pipeline: RunPipeline, customer: str, expected: int
) -> None:
    """A run accepts exactly the customer's good messages, each once, and nobody else's."""
    folder = run_pipeline("messages", customers=[customer])
    accepted = [message["id"] for message in read_lines(folder / "work/accepted.jsonl")]
    assert len(accepted) == expected
    assert set(accepted) == good_ids(customer)
    assert read_json(folder / "result.json")["by_customer"] == {customer: expected}


def test_what_is_read_is_accepted_or_rejected(run_pipeline: RunPipeline) -> None:
    """No line of the source is lost: read = accepted + rejected, over all customers and nobody's lines."""
    result = read_json((folder := run_pipeline("messages")) / "result.json")
    lines = [raw for raw in (DAGS / "data" / "messages.jsonl").read_text(encoding="utf-8").split("\n") if raw]
    assert result["read"] == len(lines) == result["accepted"] + result["rejected"]
    rejects = list(read_lines(folder / "rejects.jsonl"))
    assert Counter(reject["reason"].partition(":")[0] for reject in rejects) == result["rejects_by_reason"]
    assert all(reject["raw"] == lines_by_number()[reject["line"]] for reject in rejects)


def lines_by_number() -> dict[int, str]:
    text = (DAGS / "data" / "messages.jsonl").read_text(encoding="utf-8")
    return dict(enumerate(text.split("\n"), start=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sender": ...}, "missing field"),
        ({"body": "  "}, "missing field"),
        ({"body": 42}, "missing field"),
        ({"received_at": "yesterday"}, "bad timestamp"),
        ({"received_at": "2024-02-31T10:00:00Z"}, "bad timestamp"),
        ({"received_at": "2024-02-03T10:00:00"}, "bad timestamp"),
        ({"received_at": "0001-01-01T00:00:00+05:00"}, "bad timestamp"),
        ({"channel": "fax"}, "channel"),
        ({"body": "x" * 5_001}, "too long"),
        ({"attachments": [{"name": "a"}]}, "attachments"),
        ({"attachments": 3}, "attachments"),
    ],
)
def test_a_bad_message_is_rejected_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """Each kind of bad message is rejected, and the reason says why."""
    with pytest.raises(Reject, match=f"^{reason}"):
        check(line(**changes), Options())


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", "[" * 100_000, "<html>"])
def test_what_is_no_message_is_rejected(raw: str) -> None:
    """A line that is no JSON object is one reject, whatever it is; the run goes on."""
    with pytest.raises(Reject, match=r"^not (JSON|an object)"):
        check({"line": 1, "raw": raw}, Options())


def test_times_are_kept_in_utc() -> None:
    """A message is counted in the month that it was in UTC, wherever it was written."""
    assert check(line(), Options())["received_at"] == "2024-01-02T08:00:00+00:00"


def test_the_second_of_two_with_one_id_is_a_duplicate(run_pipeline: RunPipeline) -> None:
    """The first message with an id counts; each later one is rejected and names the first one's line."""
    source = f"{line()['raw']}\n{line(body='again')['raw']}\n"
    folder = run_pipeline("messages", source=source.encode())
    assert [each["reason"] for each in read_lines(folder / "rejects.jsonl")] == ["duplicate: of line 1"]
    assert read_json(folder / "result.json")["accepted"] == 1


def test_a_broken_line_belongs_to_the_customer_it_names(run_pipeline: RunPipeline) -> None:
    """A customer sees its own broken lines among its rejects, and never another's."""
    folder = run_pipeline("messages", customers=["acme"])
    broken = [each["raw"] for each in read_lines(folder / "rejects.jsonl") if each["reason"].startswith("not JSON")]
    assert len(broken) == 2
    assert all('"customer": "acme"' in raw for raw in broken)


def test_v1_counts_what_is_quoted_and_v2_does_not() -> None:
    """A thank-you that quotes our reminder is about billing to v1, and about nothing special to v2."""
    body = "Thank you!\n\nOn 02 Jan 2024 at 10:00, Support wrote:\n> The invoice for ORD-11111 is overdue."
    message = {**GOOD, "body": body}
    assert (parse_v1(message)["topic"], parse_v1(message)["orders"]) == ("billing", ["ORD-11111"])
    assert (parse_v2(message)["topic"], parse_v2(message)["orders"]) == ("other", [])
    assert parse_v2(message)["words"] == 2


def test_only_v2_reads_full_width_characters() -> None:
    """An order number in full-width characters is one order to v2 and none to v1."""
    message = {**GOOD, "body": "Where is ＯＲＤ－１２３４５?"}  # noqa: RUF001 - that is the point
    assert parse_v1(message)["orders"] == []
    assert parse_v2(message)["orders"] == ["ORD-12345"]


def test_v2_reports_what_v1_cannot_see(run_pipeline: RunPipeline) -> None:
    """Over the sample, v2 counts attachments and replies, and fewer words; what is accepted does not depend on it."""
    v1 = read_json(run_pipeline("messages", run_id="1", parser="v1") / "result.json")
    v2 = read_json(run_pipeline("messages", run_id="2", parser="v2") / "result.json")
    assert v1["accepted"] == v2["accepted"]
    assert v2["words"] < v1["words"]
    assert v2["by_topic"] != v1["by_topic"]
    assert "attachments" not in v1
    assert v2["attachments"] > 0 < v2["replies"]


def test_no_messages_make_an_empty_result(run_pipeline: RunPipeline) -> None:
    """A customer without messages gets a result that says so, not an error."""
    result = read_json(run_pipeline("messages", customers=["nobody"], parser="v2") / "result.json")
    assert (result["read"], result["words"], result["first_received_at"]) == (0, 0, None)


def test_half_a_surrogate_pair_survives(run_pipeline: RunPipeline) -> None:
    """JSON can hold what UTF-8 cannot: such a message is neither lost nor the end of the run."""
    folder = run_pipeline("messages", source=line(id="\ud83d")["raw"].encode())
    assert [each["id"] for each in read_lines(folder / "work/parsed.jsonl")] == ["\ud83d"]
