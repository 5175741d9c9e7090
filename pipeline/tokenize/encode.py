"""Pictures to codes, as the body of a Ray Data job.

    dataset.map_batches(Encode, fn_constructor_args=(tokenizer_url,), batch_format="pyarrow", concurrency=(1, 4))

Guarantees: the codes of a picture do not depend on the batch it comes in; each row names the tokenizer that made it.
"""

import pyarrow as pa
import torch

from pipeline.records import CODES
from pipeline.storage import Store
from pipeline.tokenize.collate import pictures
from pipeline.tokenize.package import load


class Encode:
    """A table of IMAGE to a table of CODES, row by row in the same order; loads the tokenizer once per worker."""

    def __init__(self, tokenizer_url: str) -> None:
        self.tokenizer = load(Store(tokenizer_url), "cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, table: pa.Table) -> pa.Table:
        """One batch; ValueError names the key of a broken picture."""
        if table.num_rows == 0:
            return CODES.empty_table()
        config = self.tokenizer.config
        codes = self.tokenizer.encode(pictures(table, config.channels, config.image_size))
        return pa.table(
            {
                "key": table["key"],
                "modality": ["image"] * len(codes),
                "text": table["caption"],
                "codes": codes.flatten(1).tolist(),
                "shape": [list(codes.shape[1:])] * len(codes),
                "tokenizer_sha256": [self.tokenizer.sha256] * len(codes),
            },
            schema=CODES,
        )
