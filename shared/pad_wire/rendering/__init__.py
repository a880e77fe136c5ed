"""From a conversation to text and token ids under a model's own chat template; ``pad_wire.chat`` is the way in."""
