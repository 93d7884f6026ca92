"""Images with captions in any usual layout, as one stream of records.

Layouts: folders, JSONL lists, webdataset shards (`FORMS`). Records are cheap: a caption and where
its image lies. What cannot be used comes as `Skipped` with the reason, so that the numbers of
records never depend on what was readable.
"""

from .open import FORMS, open_records
from .record import (
    Item,
    Packed,
    Record,
    RecordSet,
    Skipped,
    read_record,
    read_reduced_record,
    skipped,
)
from .shards import expand_braces, match_patterns

__all__ = [
    "FORMS",
    "Item",
    "Packed",
    "Record",
    "RecordSet",
    "Skipped",
    "expand_braces",
    "match_patterns",
    "open_records",
    "read_record",
    "read_reduced_record",
    "skipped",
]
