#!/usr/bin/env python3
"""The logits that llama.cpp computes after every token, as float32.

usage: PYTHON llama_logits.py MODEL.gguf ID,ID,… OUT        where PYTHON is that of llama-cpp-python (bench/peers makes it)
"""
import sys

import numpy as np
from llama_cpp import Llama

model, ids, out = sys.argv[1], [int(token) for token in sys.argv[2].split(",")], sys.argv[3]
llama = Llama(model_path=model, n_ctx=len(ids), n_batch=len(ids), logits_all=True, n_threads=2, verbose=False)
llama.eval(ids)
np.array(llama.scores[: len(ids)], np.float32).tofile(out)
