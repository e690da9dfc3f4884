"""The checks that a policy decides on: one function each, from what was examined to observations.

A new check is one function here, one line in ``CATALOG``, and one row in ``appraisal/presets.py``.
"""

from teeverify.appraisal.checks.catalog import CATALOG
from teeverify.appraisal.checks.run import run_answer_checks, run_evidence_checks

__all__ = ["CATALOG", "run_answer_checks", "run_evidence_checks"]
