"""The model card: README.md of a Hugging Face directory."""

from collections.abc import Mapping

from lib.model.config import BertConfig


def _number(value: object) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def model_card(phase: str, config: BertConfig, metrics: Mapping[str, object]) -> str:
    """Markdown with the front matter that the hub reads."""
    rows = "\n".join(f"| {name} | {_number(value)} |" for name, value in metrics.items())
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
---

# {phase}

A BERT with {config.num_hidden_layers} layers of {config.hidden_size} units,
{config.num_attention_heads} heads and a WordPiece vocabulary of {config.vocab_size:,} rows,
pretrained with domain-bert.

```python
from transformers import pipeline

fill = pipeline("fill-mask", model="PATH/OF/THIS/FOLDER")
```

## Held-out numbers

Test documents were never seen in training, nor by the vocabulary. The unigram loss and the top
token's accuracy are what one gets from the frequency of pieces alone.

| metric | value |
|---|---|
{rows}
"""
