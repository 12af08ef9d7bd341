"""Sorting records into accepted and rejected ones. A reject keeps its reasons and what it looked like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.files import Record, read_lines, write_lines

ACCEPTED = "work/accepted.jsonl"
FETCHED = "work/fetched.jsonl"
REJECTS = "rejects.jsonl"


class Reject(Exception):
    """A record that is not used. Its text is `reason` or `reason: detail`; results count by reason."""


class TooManyRejectsError(Exception):
    """More than the allowed share of the records was rejected: the source is broken rather than a few records."""


def sort_out(folder: Path, check: Callable[[Record], Record], *, max_share: float) -> dict[str, Any]:
    """Put every fetched record through `check`, which returns the accepted form of it or raises Reject.

    Args:
        folder: the run's folder.
        check: looks at one fetched record: its `line` in the source and the `raw` text there.
        max_share: of the records that may be rejected, from 0 to 1.

    Raises:
        TooManyRejectsError: after both files are written, so that one can look at what was wrong.
    """
    accepted: dict[str, Record] = {}
    rejects: list[Record] = []
    for fetched in read_lines(folder / FETCHED):
        try:
            record = check(fetched)
        except Reject as reject:
            rejects.append({**fetched, "reason": str(reject)})
            continue
        if first := accepted.get(record["id"]):
            rejects.append({**fetched, "reason": f"duplicate: of line {first['line']}"})
        else:
            accepted[record["id"]] = {**record, "line": fetched["line"]}
    write_lines(folder / ACCEPTED, accepted.values())
    write_lines(folder / REJECTS, rejects)
    total = len(accepted) + len(rejects)
    if len(rejects) > max_share * total:
        raise TooManyRejectsError(
            f"{len(rejects)} of {total} records were rejected, more than the {max_share:.0%} that max_reject_share "
            f"allows; see {folder / REJECTS}"
        )
    return {"accepted": len(accepted), "rejected": len(rejects)}


def tally(folder: Path, accepted: int) -> dict[str, Any]:
    """Return the part of a result that tells how many records were read, accepted, and rejected for which reason."""
    reasons = Counter(reject["reason"].partition(":")[0] for reject in read_lines(folder / REJECTS))
    rejected = reasons.total()
    return {
        "read": accepted + rejected,
        "accepted": accepted,
        "rejected": rejected,
        "rejects_by_reason": dict(reasons),
    }
