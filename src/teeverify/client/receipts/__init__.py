"""One answer with all that proves it: kept, saved, and verified again."""

from teeverify.client.receipts.kept import Receipts
from teeverify.client.receipts.receipt import Receipt

__all__ = ["Receipt", "Receipts"]
