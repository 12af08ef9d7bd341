"""The flywheel's report: what each customer writes to us beside what it pays us."""

from __future__ import annotations

from typing import Any

from pipelines.files import read_json, write_json
from pipelines.steps import run_folder


def combine(owner: str, run_id: str, output_dir: str | None = None) -> dict[str, Any]:
    """Join the results of a run's two pipelines by customer, into the `result.json` of its folder under `report`."""
    names = ("process_messages", "process_invoices")
    messages, invoices = (read_json(run_folder(owner, name, run_id, output_dir) / "result.json") for name in names)
    customers = sorted(messages["by_customer"].keys() | invoices["gross_by_customer"].keys())
    result = {
        "pipeline": "flywheel",
        "currency": invoices["currency"],
        "customers": {
            customer: {
                "messages": messages["by_customer"].get(customer, 0),
                "invoices": invoices["invoices_by_customer"].get(customer, 0),
                "gross": invoices["gross_by_customer"].get(customer, "0.00"),
            }
            for customer in customers
        },
        "rejected": messages["rejected"] + invoices["rejected"],
    }
    write_json(run_folder(owner, "report", run_id, output_dir) / "result.json", result)
    return {"customers": len(customers), "rejected": result["rejected"]}
