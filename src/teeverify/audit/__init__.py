"""Many receipts at once: read, verified on all cores or on Ray, and held against each other.

Raw receipts go out to the workers, and only results come back: nothing verified crosses a process.
"""

from teeverify.audit.records import Batch, Records, is_records, write_records
from teeverify.audit.report import Report, Row
from teeverify.audit.run import Mapper, Settings, audit, on_ray, verify_batch

__all__ = [
    "Batch",
    "Mapper",
    "Records",
    "Report",
    "Row",
    "Settings",
    "audit",
    "is_records",
    "on_ray",
    "verify_batch",
    "write_records",
]
