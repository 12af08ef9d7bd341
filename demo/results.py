"""Are a run's results right? They are compared with figures that are worked out here, from the sample data alone."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from .stack import DAGS


def check_messages(folder: Path) -> str:
    """Compare a result with what the sample data hold: the reject file says which lines do not count."""
    result, rejected = _result(folder)
    lines = (DAGS / "data" / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    mine = {number: line for number, line in enumerate(lines, 1) if '"customer": "acme"' in line}
    accepted = [json.loads(line) for number, line in mine.items() if number not in rejected]
    assert rejected, "the sample data hold bad messages, and none was rejected"
    assert rejected <= set(mine), f"lines of others were rejected: {sorted(rejected - set(mine))}"
    assert len({each["id"] for each in accepted}) == len(accepted), "a message counts twice"
    _same(result, "read", len(mine))
    _same(result, "accepted", len(accepted))
    _same(result, "by_customer", {"acme": len(accepted)})
    _same(result, "by_channel", dict(Counter(each["channel"] for each in accepted)))
    return f"{len(accepted)} messages, {len(rejected)} rejects"


def check_invoices(folder: Path) -> str:
    """Compare a result with the totals that the invoices themselves state, to the cents that rounding may move."""
    result, rejected = _result(folder)
    stated: dict[str, list[Decimal]] = defaultdict(list)
    count = 0
    with (DAGS / "data" / "invoices.csv").open(encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            if row[1:2] == ["acme"]:
                count += 1
                if rows.line_num not in rejected:
                    stated[row[4]].append(Decimal(row[7]))
    accepted = sum(map(len, stated.values()))
    assert rejected, "the sample data hold bad invoices, and none was rejected"
    _same(result, "read", count)
    _same(result, "accepted", accepted)
    assert set(result["gross_by_currency"]) == set(stated)
    for currency, totals in stated.items():
        apart = abs(Decimal(result["gross_by_currency"][currency]) - sum(totals))
        assert apart <= Decimal("0.02") * len(totals), f"{currency}: {apart} apart from what the invoices state"
    return f"{accepted} invoices, {len(rejected)} rejects, gross {result['gross']} {result['currency']}"


def check_report(folder: Path, customers: list[str]) -> str:
    """Look whether a project's report has something to say of each customer, from either side."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert sorted(result["customers"]) == customers, result
    assert all(each["messages"] and each["invoices"] for each in result["customers"].values()), result
    return f"both sides of {', '.join(result['customers'])}"


def parser_of(folder: Path) -> str:
    """Return which parser made a result of messages: a flag's value, which shaped the DAG."""
    return str(_result(folder)[0]["parser"])


def newest(folder: Path) -> Path:
    """Return the folder of the last run."""
    return max(folder.iterdir(), key=lambda run: run.stat().st_mtime)


def _result(folder: Path) -> tuple[dict[str, Any], set[int]]:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    rejects = (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    _same(result, "rejected", len(rejects))
    return result, {json.loads(line)["line"] for line in rejects}


def _same(result: dict[str, Any], name: str, expected: object) -> None:
    assert result[name] == expected, f"{name}: the result says {result[name]}, the sample data say {expected}"
