"""What the fork server imports once, so that each worker starts with it."""

import torch

import fedrobust.flower.client_app
import fedrobust.learners.mutual  # noqa: F401
from fedrobust.engines.launch import keep_freed_memory

# One thread before any operation: a pool of threads made here would not survive the fork into workers.
torch.set_num_threads(1)
keep_freed_memory()
