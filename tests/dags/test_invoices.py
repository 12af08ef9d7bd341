from __future__ import annotations

import csv
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest

from pipelines.files import read_json
from pipelines.invoices import COLUMNS, Options, amounts, check, total
from pipelines.rejects import Reject

from .conftest import DAGS, RunPipeline

RATES = {"USD": "0.92", "GBP": "1.17"}
GOOD = {
    "number": "ACM-1",
    "customer": "acme",
    "issued_on": "2024-01-02",
    "due_on": "2024-01-16",
    "currency": "EUR",
    "lines": "2x10.00|0.5x5.00",
    "tax_rate": "20",
    "total": "27.00",
}


def row(**changes: str) -> dict[str, object]:
    return {"line": 2, "raw": list({**GOOD, **changes}.values())}


def sample(customer: str) -> dict[str, dict[str, str]]:
    """Return the customer's good invoices, by number, from the raw data and by other means than the pipeline's."""
    with (DAGS / "data" / "invoices.csv").open(encoding="utf-8", newline="") as file:
        rows = [each for each in csv.DictReader(file) if each["customer"] == customer]
    # The spoiled invoices of the sample have numbers from 9000 on: that is how the sample was made.
    return {each["number"]: each for each in rows if int(each["number"][-4:]) < 9_000}


def cents(amount: Fraction) -> Fraction:
    """Round to cents, halves up, in exact arithmetic of its own."""
    return Fraction(floor(amount * 100 + Fraction(1, 2)), 100)


def gross_in_euro(invoice: dict[str, str]) -> Fraction:
    lines = [line.split("x") for line in invoice["lines"].split("|")]
    net = cents(sum((Fraction(quantity) * Fraction(price) for quantity, price in lines), Fraction(0)))
    tax = cents(net * Fraction(invoice["tax_rate"]) / 100)
    rate = Fraction({"EUR": "1", **RATES}[invoice["currency"]])
    return cents(net * rate) + cents(tax * rate)


@pytest.mark.parametrize(("customer", "expected"), [("acme", 112), ("globex", 90), ("initech", 75), ("umbrella", 60)])
def test_totals_are_those_of_the_raw_data(run_pipeline: RunPipeline, customer: str, expected: int) -> None:
    """The gross total is the sum over the customer's good invoices, to the cent, as exact fractions give it."""
    result = read_json(run_pipeline("invoices", customers=[customer], rates=RATES) / "result.json")
    invoices = sample(customer)
    assert result["accepted"] == len(invoices) == expected
    assert Fraction(result["gross"]) == sum(gross_in_euro(invoice) for invoice in invoices.values())
    assert result["gross_by_customer"] == {customer: result["gross"]}


def test_what_is_read_is_accepted_or_rejected(run_pipeline: RunPipeline) -> None:
    """No row of the source is lost: read = accepted + rejected, over all customers and nobody's rows."""
    result = read_json(run_pipeline("invoices", rates=RATES) / "result.json")
    with (DAGS / "data" / "invoices.csv").open(encoding="utf-8", newline="") as file:
        rows = len(list(csv.reader(file))) - 1
    assert result["read"] == rows == result["accepted"] + result["rejected"]
    assert result["rejects_by_reason"] == {
        "negative amount": 4,
        "unknown currency": 4,
        "wrong total": 5,
        "bad date": 6,
        "bad line": 1,
        "missing field": 2,
        "broken row": 2,
        "duplicate": 5,
    }


def test_the_parts_add_up(run_pipeline: RunPipeline) -> None:
    """Net and tax make gross, and so do the customers and the months: no cent is lost to a float."""
    result = read_json(run_pipeline("invoices", rates=RATES) / "result.json")
    gross = Decimal(result["gross"])
    assert Decimal(result["net"]) + Decimal(result["tax"]) == gross
    for name in ("gross_by_customer", "gross_by_month"):
        assert sum(Decimal(part) for part in result[name].values()) == gross


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lines": "-2x10.00|0.5x5.00"}, "negative amount"),
        ({"total": "-27.00"}, "negative amount"),
        ({"currency": "XXX"}, "unknown currency"),
        ({"total": "27.03"}, "wrong total"),
        ({"total": "NaN"}, "not a number"),
        ({"total": "1E+999999"}, "not a number"),
        ({"tax_rate": "200"}, "tax rate"),
        ({"lines": "2x"}, "bad line"),
        ({"lines": "2"}, "bad line"),
        ({"issued_on": "2024-02-30"}, "bad date"),
        ({"due_on": "31/01/2024"}, "bad date"),
        ({"due_on": "2023-12-31"}, "bad date"),
        ({"customer": ""}, "missing field"),
    ],
)
def test_a_bad_invoice_is_rejected_with_its_reason(changes: dict[str, str], reason: str) -> None:
    """Each kind of bad invoice is rejected, and the reason says why."""
    with pytest.raises(Reject, match=f"^{reason}"):
        check(row(**changes), Options())


def test_a_row_that_breaks_off_is_rejected() -> None:
    """A row with fewer columns than the header is one reject."""
    with pytest.raises(Reject, match=r"^broken row: 3 columns instead of 8"):
        check({"line": 2, "raw": ["ACM-1", "acme", "2024-01-02"]}, Options())


def test_a_date_has_one_spelling() -> None:
    """Every spelling of an ISO date counts for its month."""
    assert check(row(issued_on="20240102"), Options())["issued_on"] == "2024-01-02"


@pytest.mark.parametrize(("rounding", "net", "tax"), [("half-up", "0.13", "0.01"), ("half-even", "0.12", "0.01")])
def test_the_rounding_decides_about_halves(rounding: str, net: str, tax: str) -> None:
    """Half a cent goes up, or to the even neighbour, as the flag says."""
    assert amounts({"lines": "0.5x0.25", "tax_rate": "10"}, rounding) == (Decimal(net), Decimal(tax))


def test_the_rounding_shows_in_the_sample(run_pipeline: RunPipeline) -> None:
    """The three ways of rounding give three totals of the same invoices, and `down` the smallest."""
    ways = {
        way: read_json(run_pipeline("invoices", run_id=way, rounding=way, rates=RATES) / "result.json")
        for way in ("half-up", "half-even", "down")
    }
    assert {each["accepted"] for each in ways.values()} == {337}
    totals = {way: Decimal(each["gross"]) for way, each in ways.items()}
    assert totals["down"] < totals["half-even"] < totals["half-up"]


def test_amounts_are_limited_in_the_reports_currency() -> None:
    """10 pounds at 1.17 are over a limit of 11 euro, and one that is exactly at the limit is not."""
    pounds = row(currency="GBP", lines="1x10.00", tax_rate="0", total="10.00")
    with pytest.raises(Reject, match=r"^amount"):
        check(pounds, Options(rates=RATES, max_amount="11"))
    assert check(pounds, Options(rates=RATES, max_amount="11.70"))["number"] == "ACM-1"


def test_an_invoice_is_converted_after_it_is_rounded() -> None:
    """What is reported is what the printed invoice says, converted."""
    invoice = check(row(currency="USD"), Options(rates=RATES))
    worked_out = total(invoice, Options(rates=RATES))
    assert worked_out["gross_in_own_currency"] == "27.00"
    assert (worked_out["net"], worked_out["tax"], worked_out["gross"]) == ("20.70", "4.14", "24.84")


def test_no_invoices_make_an_empty_result(run_pipeline: RunPipeline) -> None:
    """A customer without invoices gets a result that says so, not an error."""
    result = read_json(run_pipeline("invoices", customers=["nobody"]) / "result.json")
    assert (result["read"], result["gross"], result["largest"]) == (0, "0.00", None)


def test_a_byte_that_is_no_text_spoils_its_row_alone(run_pipeline: RunPipeline) -> None:
    """A row with a broken byte does not end the run, and the rows around it count."""
    rows = [",".join(COLUMNS).encode(), b"AC\xff,acme", ",".join(GOOD.values()).encode()]
    result = read_json(run_pipeline("invoices", source=b"\n".join(rows)) / "result.json")
    assert (result["accepted"], result["rejects_by_reason"]) == (1, {"broken row": 1})
