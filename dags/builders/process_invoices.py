"""ProcessInvoices: what a client's invoices add up to, in one currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from builders.pipeline import PipelineConfig, add_steps
from dagfactory_consul import DagBuilder, builder

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Amount = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=4)]


class ProcessInvoicesConfig(PipelineConfig):
    """What a tenant may set under `dags: {ProcessInvoices: …}`. Anything else is refused, with the near miss."""

    currency: Currency = Field("EUR", description="Of the report")
    rates: dict[Currency, Amount] = Field(
        {"USD": Decimal("0.92"), "GBP": Decimal("1.17")},
        description="What one unit of another currency is worth in `currency`; invoices in any other are rejected",
    )
    min_amount: Amount = Field(Decimal(0), description="In `currency`; smaller invoices are rejected")
    max_amount: Amount = Field(Decimal(100_000), description="In `currency`; larger ones are for a human to look at")

    @model_validator(mode="after")
    def _some_amount_is_allowed(self) -> Self:
        if self.min_amount > self.max_amount:
            raise ValueError(f"min_amount {self.min_amount} is above max_amount {self.max_amount}")
        return self


@builder("ProcessInvoices", flag="process-invoices", flags={"invoice-rounding": "half-up"})
class ProcessInvoices(DagBuilder[ProcessInvoicesConfig]):
    """Fetch, validate and total a tenant's invoices, and report on them."""

    def tasks(self) -> None:
        """Make the tasks: called within the DAG, or within a task group of a project's DAG."""
        rounding = self.flags["invoice-rounding"]
        if rounding not in ("half-up", "half-even", "down"):
            raise ValueError(f"the flag invoice-rounding says {rounding!r}; there are half-up, half-even and down")
        config = self.config
        add_steps(
            self,
            "invoices",
            rounding=rounding,
            currency=config.currency,
            # As text: a float would not keep 0.92, and a task's arguments travel as JSON.
            rates={currency: f"{rate:f}" for currency, rate in sorted(config.rates.items())},
            min_amount=f"{config.min_amount:f}",
            max_amount=f"{config.max_amount:f}",
        )
