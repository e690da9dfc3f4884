"""The verifier as its users meet it."""

from teeverify.client.receipts.receipt import Receipt
from teeverify.client.sources.load import Evidence
from teeverify.client.verifier import Verifier, appraise, verify

__all__ = ["Evidence", "Receipt", "Verifier", "appraise", "verify"]
