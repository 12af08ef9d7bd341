"""Customers' invoices: what they add up to, in one currency. Money is Decimal, and text in files: never a float."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from pipelines.files import Record, read_lines, write_json, write_lines
from pipelines.rejects import ACCEPTED, FETCHED, Reject, sort_out, tally

DATA = Path(__file__).parent.parent / "data"
TOTALS = "work/totals.jsonl"
COLUMNS = ("number", "customer", "issued_on", "due_on", "currency", "lines", "tax_rate", "total")
CENT = Decimal("0.01")
TOLERANCE = 2 * CENT  # net and tax are rounded one by one, and whoever wrote the invoice may round in another way
# Decimal itself also takes `1_000`, `NaN` and `1E+999999`; products of numbers of this size stay exact.
NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,4})?")
ROUNDINGS = {"half-up": ROUND_HALF_UP, "half-even": ROUND_HALF_EVEN, "down": ROUND_DOWN}


@dataclass(frozen=True)
class Options:
    """What one run does. All of it comes from the tenant's configuration and flags."""

    customers: tuple[str, ...] | list[str] = ()  # none named: all
    rounding: str = "half-up"
    currency: str = "EUR"  # of the report
    rates: dict[str, str] = field(default_factory=dict)  # what one unit of another currency is worth in `currency`
    min_amount: str = "0"  # in `currency`, as the invoice's total is compared
    max_amount: str = "100000"
    max_reject_share: float = 1.0
    source: str = "invoices.csv"  # a path, seen from dags/data/

    def rate(self, currency: str) -> Decimal | None:
        """Return what one unit is worth in the report's currency; None where that is not known."""
        return Decimal(1) if currency == self.currency else _number(self.rates.get(currency, ""))


def fetch(options: Options, folder: Path) -> dict[str, Any]:
    """Read the customers' slice of the source, as it is there: nothing is judged yet."""
    return {"fetched": write_lines(folder / FETCHED, _slice(options))}


def validate(options: Options, folder: Path) -> dict[str, Any]:
    """Accept or reject each invoice."""
    return sort_out(folder, lambda fetched: check(fetched, options), max_share=options.max_reject_share)


def process(options: Options, folder: Path) -> dict[str, Any]:
    """Work out net, tax and gross of each accepted invoice, in its own and in the report's currency."""
    totals = (total(invoice, options) for invoice in read_lines(folder / ACCEPTED))
    return {"totalled": write_lines(folder / TOTALS, totals)}


def report(options: Options, folder: Path) -> dict[str, Any]:
    """Add everything up into `result.json`."""
    totals = list(read_lines(folder / TOTALS))
    result = {
        "pipeline": "invoices",
        "rounding": options.rounding,
        "currency": options.currency,
        **tally(folder, len(totals)),
        **aggregate(totals),
    }
    write_json(folder / "result.json", result)
    return {key: result[key] for key in ("read", "accepted", "rejected", "gross")}


STEPS: dict[str, Callable[[Options, Path], dict[str, Any]]] = {
    "fetch": fetch,
    "validate": validate,
    "process": process,
    "report": report,
}


def check(fetched: Record, options: Options) -> Record:
    """Return the invoice that a row holds. Raises Reject where it holds none that can be used."""
    row = fetched["raw"]
    if len(row) != len(COLUMNS):
        raise Reject(f"broken row: {len(row)} columns instead of {len(COLUMNS)}")
    invoice: Record = dict(zip(COLUMNS, row, strict=True))
    for column, value in invoice.items():
        if not value.strip():
            raise Reject(f"missing field: {column}")
    invoice |= _dates(invoice)
    if (rate := options.rate(invoice["currency"])) is None:
        raise Reject(f"unknown currency: {invoice['currency']} has no rate")
    _check_amounts(invoice, rate, options)
    return {**invoice, "id": invoice["number"]}


def total(invoice: Record, options: Options) -> Record:
    """Work out one accepted invoice. Every amount is rounded where it is due: net, tax, and what they are worth."""
    net, tax = amounts(invoice, options.rounding)
    rate = options.rate(invoice["currency"]) or Decimal(1)  # `check` accepts no currency without a rate
    worth = {name: _round(amount * rate, options.rounding) for name, amount in (("net", net), ("tax", tax))}
    return {
        **{column: invoice[column] for column in ("number", "customer", "issued_on", "currency")},
        "gross_in_own_currency": str(net + tax),
        **{name: str(amount) for name, amount in worth.items()},
        "gross": str(worth["net"] + worth["tax"]),
    }


def amounts(invoice: Record, rounding: str) -> tuple[Decimal, Decimal]:
    """Return net and tax of an invoice, in its own currency."""
    net = _round(sum((quantity * price for quantity, price in _lines(invoice["lines"])), Decimal(0)), rounding)
    return net, _round(net * Decimal(invoice["tax_rate"]) / 100, rounding)


def aggregate(totals: list[Record]) -> dict[str, Any]:
    """Add up what was worked out. All but `gross_by_currency` is in the report's currency."""
    largest = max(totals, key=lambda each: (Decimal(each["gross"]), each["number"]), default=None)
    return {
        **{name: _sum(totals, name) for name in ("net", "tax", "gross")},
        "gross_by_customer": _sum_by(totals, lambda each: each["customer"]),
        "gross_by_month": _sum_by(totals, lambda each: each["issued_on"][:7]),
        "gross_by_currency": _sum_by(totals, lambda each: each["currency"], "gross_in_own_currency"),
        "invoices_by_customer": dict(Counter(each["customer"] for each in totals)),
        "largest": {"number": largest["number"], "gross": largest["gross"]} if largest else None,
    }


def _slice(options: Options) -> Iterator[Record]:
    with (DATA / options.source).open(encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)  # the column names
        for row in rows:
            if not options.customers or (row[1:2] and row[1] in options.customers):
                yield {"line": rows.line_num, "raw": row}


def _dates(invoice: Record) -> dict[str, str]:
    """Return the dates in one spelling: `20240105` and `2024-W01-5` are ISO dates too."""
    dates = {}
    for column in ("issued_on", "due_on"):
        try:
            dates[column] = date.fromisoformat(invoice[column]).isoformat()
        except ValueError as error:
            raise Reject(f"bad date: {column} {invoice[column]}") from error
    if dates["due_on"] < dates["issued_on"]:
        raise Reject(f"bad date: due on {dates['due_on']}, before it was issued")
    return dates


def _check_amounts(invoice: Record, rate: Decimal, options: Options) -> None:
    stated, tax_rate = _number(invoice["total"]), _number(invoice["tax_rate"])
    if stated is None:
        raise Reject(f"not a number: total {invoice['total']}")
    if tax_rate is None or not 0 <= tax_rate <= 100:
        raise Reject(f"tax rate: {invoice['tax_rate']} is no percentage")
    if stated < 0 or any(min(line) < 0 for line in _lines(invoice["lines"])):
        raise Reject("negative amount")
    computed = sum(amounts(invoice, options.rounding))
    if abs(computed - stated) > TOLERANCE:
        raise Reject(f"wrong total: {stated} is stated, the lines make {computed}")
    if not Decimal(options.min_amount) <= stated * rate <= Decimal(options.max_amount):
        raise Reject(f"amount: {stated} is outside {options.min_amount} to {options.max_amount} {options.currency}")


def _lines(text: str) -> list[tuple[Decimal, Decimal]]:
    """Read `2x9.90|1.5x80.00`: quantities and prices."""
    found = []
    for line in text.split("|"):
        quantity, price = (_number(part) for part in (line.partition("x")[0], line.partition("x")[2]))
        if quantity is None or price is None:
            raise Reject(f"bad line: {line!r} is not <quantity>x<price>")
        found.append((quantity, price))
    return found


def _number(text: str) -> Decimal | None:
    return Decimal(text) if NUMBER.fullmatch(text) else None


def _round(amount: Decimal, rounding: str) -> Decimal:
    return amount.quantize(CENT, rounding=ROUNDINGS[rounding])


def _sum(totals: Iterable[Record], name: str) -> str:
    return str(sum((Decimal(each[name]) for each in totals), Decimal("0.00")))


def _sum_by(totals: list[Record], key: Callable[[Record], str], name: str = "gross") -> dict[str, str]:
    groups: defaultdict[str, list[Record]] = defaultdict(list)
    for each in totals:
        groups[key(each)].append(each)
    return {group: _sum(members, name) for group, members in groups.items()}
