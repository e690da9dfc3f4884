"""What a caller hands over, read: from bytes, files and receipts to evidence that is untrusted."""

from teeverify.client.sources.files import read_bytes
from teeverify.client.sources.load import Evidence, Source, is_url, load_evidence

__all__ = ["Evidence", "Source", "is_url", "load_evidence", "read_bytes"]
