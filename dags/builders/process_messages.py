"""ProcessMessages: what a client's customers write about, counted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from builders.pipeline import PipelineConfig, add_steps
from dagfactory_consul import DagBuilder, builder


class ProcessMessagesConfig(PipelineConfig):
    """What a tenant may set under `dags: {ProcessMessages: …}`. Anything else is refused, with the near miss."""

    channels: tuple[Literal["email", "chat", "web"], ...] = Field(("email", "chat", "web"), min_length=1)
    max_body_chars: int = Field(5_000, ge=1, description="Longer messages are rejected")


# `flag` switches the DAG on and off for a tenant; the values of `flags` shape it. Each has the default that holds where
# the flag is not defined: on, and "v1".
@builder("ProcessMessages", flag="process-messages", flags={"message-parser": "v1"})
class ProcessMessages(DagBuilder[ProcessMessagesConfig]):
    """Fetch, validate and parse a tenant's messages, and report on them."""

    def tasks(self) -> None:
        """Make the tasks: called within the DAG, or within a task group of a project's DAG."""
        parser = self.flags["message-parser"]
        if parser not in ("v1", "v2"):  # said here, it is this tenant's problem before any run starts
            raise ValueError(f"the flag message-parser says {parser!r}; there are v1 and v2")
        add_steps(
            self,
            "messages",
            parser=parser,
            channels=list(self.config.channels),
            max_body_chars=self.config.max_body_chars,
        )
