"""For every test: no hub, and one thread, so that tests beside each other do not wait for each other's threads."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)
