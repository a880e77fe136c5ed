"""Code that both sides run on a transformers model: logit transforms, attention calls, trials; torch only.

Names of tensors end in their axes, in capitals (a head's size is a small d), and one legend holds everywhere:

    P prompts · N responses · B rows · L row length · T packed tokens · K predictions · V vocabulary ·
    D hidden · H heads · G key heads · d head size · R rankings ·
    A actions, the tokens that a teacher names, and the rest (in token-level losses: R responses)

A part of an axis keeps its letter: ``logits_K_V`` may hold some of the predictions and a block of the vocabulary.
"""
