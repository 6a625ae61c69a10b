"""OpenVINO GenAI's `LLMPipeline`, given the GGUF file itself.

usage: openvino_worker.py MODEL.gguf --threads N        (run.py starts it; see protocol.py)

- A prompt of N tokens is `generate` of N random ids with one new token; the time is that of its one inference.
- A generation at depth d is `generate` of d random ids (one at depth 0) with n + 1 new tokens; the first comes out of
  the prompt, and the time is that of the n inferences after it. Sampling is greedy and not part of the time.
- The pipeline keeps earlier prompts' caches, so the fill of a depth, which is always the same ids, is paid once; the ids
  of a measured prompt are new each time.
"""
import argparse
import random

import numpy
import openvino
import openvino_genai
import protocol

SETTINGS = {"u8": {}, "f16": {"KV_CACHE_PRECISION": "f16"}}  # u8 is what the CPU plugin chooses by itself
FILL_SEED = 1


class Bench:
    """One model, and a pipeline for each setting used so far."""

    def __init__(self, path: str, n_threads: int):
        self.path, self.n_threads = path, n_threads
        self.pipelines = {}
        self.pipeline("u8")

    def pipeline(self, setting: str):
        if setting not in self.pipelines:
            properties = dict(SETTINGS[setting], INFERENCE_NUM_THREADS=self.n_threads)
            self.pipelines[setting] = openvino_genai.LLMPipeline(self.path, "CPU", **properties)
        return self.pipelines[setting]

    def generate(self, setting: str, ids: list[int], n_new: int) -> list[float]:
        """Microseconds of each inference, `[n_new]`; the first one's includes the prompt."""
        array = numpy.array([ids], dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(array), openvino.Tensor(numpy.ones_like(array)))
        config = openvino_genai.GenerationConfig(max_new_tokens=n_new, ignore_eos=True, do_sample=False)
        metrics = self.pipeline(setting).generate(inputs, config).perf_metrics
        durations = [float(us) for us in metrics.raw_metrics.token_infer_durations]
        if metrics.get_num_input_tokens() != len(ids) or len(durations) != n_new:
            raise RuntimeError(
                f"OpenVINO reports {metrics.get_num_input_tokens()} prompt tokens and {len(durations)} inferences"
                f" instead of {len(ids)} and {n_new}"
            )
        return durations

    def measure(self, request: dict) -> float:
        n_prompt, n_gen, n_depth, setting = (request[key] for key in ("n_prompt", "n_gen", "n_depth", "setting"))
        if n_prompt and n_depth:
            raise RuntimeError("prompts at a depth are not measured for OpenVINO")
        if n_prompt:
            return sum(self.generate(setting, random_ids(request["seed"], n_prompt), 1)) / 1e6
        return sum(self.generate(setting, random_ids(FILL_SEED, max(n_depth, 1)), n_gen + 1)[1:]) / 1e6


def random_ids(seed: int, n_ids: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(100, 40_000) for _ in range(n_ids)]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--threads", type=int, required=True)
    args = arguments.parse_args()

    def start():
        bench = Bench(args.model, args.threads)
        return {"version": openvino_genai.get_version(), "settings": list(SETTINGS)}, bench.measure

    protocol.serve(start)


if __name__ == "__main__":
    main()
