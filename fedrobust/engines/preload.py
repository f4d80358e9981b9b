"""What the fork server imports once, so that each worker starts with it."""

import os

import torch

import fedrobust.flower.client_app
import fedrobust.learners.mutual  # noqa: F401
from fedrobust.engines.launch import SAFE_PATH, keep_freed_memory

# One thread before any operation: a pool of threads made here would not survive the fork into workers.
torch.set_num_threads(1)
keep_freed_memory()
if os.environ.get(SAFE_PATH) == keep_freed_memory.__module__:
    del os.environ[SAFE_PATH]
