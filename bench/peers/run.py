#!/usr/bin/env python3
"""Measure lossy beside llama.cpp and OpenVINO GenAI: same file, same machine, same threads, in turns.

usage: python3 bench/peers/run.py --model smollm2|qwen|PATH [--tests pp512,pp2048,tg128@0,tg128@8192]
                                  [--threads 2] [--rounds 5] [--engines lossy,llama.cpp,openvino]
                                  [--kv f16,k2v2] [--settings EXPRESSION] [--keep 0.9]
                                  [--depth-fill prefill|copies] [-o FILE.json]

README.md beside this file says what exactly is measured, and what to watch for when reading the figures.
"""
import argparse
import json
import pathlib
import re
import sys

import environments
import report
from engines import EngineError, Lossy, Worker
from workload import Workload, parse_workload

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))
import fetch_test_models  # noqa: E402


def start_engine(name: str, model: pathlib.Path, args: argparse.Namespace):
    if name == "lossy":
        if not args.lossy.exists():
            raise SystemExit(f"error: {args.lossy} is not there; build it with cargo build --release")
        return Lossy(args.lossy, model, args.threads, args.kv.split(","), args.depth_fill)
    if name == "llama.cpp":
        python = args.llama_python or environments.python_of(environments.LLAMA)
        options = ["--depth-fill", args.depth_fill]
        if args.states:
            options += ["--states", str(args.states)]
        return Worker(name, python, "llama_worker.py", model, args.threads, options)
    if name == "openvino":
        if args.depth_fill != "prefill":
            raise EngineError(f"its cache cannot be filled with {args.depth_fill}")
        python = args.openvino_python or environments.python_of(environments.OPENVINO)
        return Worker(name, python, "openvino_worker.py", model, args.threads, [])
    raise SystemExit(f"error: no engine named {name!r}: there are lossy, llama.cpp and openvino")


def measure(engines: list, workload: Workload, n_rounds: int, keep: float) -> list[report.Result]:
    """Before the rounds every setting runs twice, to warm up and to choose: those go on that have more than the share
    `keep` of their engine's best speed.
    """
    first: dict[tuple[str, str], float] = {}
    samples: dict[tuple[str, str], list[float]] = {}
    errors: dict[tuple[str, str], str] = {}

    def run(engine, setting: str, seed: int) -> float | None:
        try:
            speed = engine.measure(workload, setting, seed)
        except EngineError as error:
            errors[engine.name, setting] = str(error)
            return None
        print(f"{workload.name}  {engine.name} ({setting}): {speed:.1f} t/s", file=sys.stderr, flush=True)
        return speed

    for engine in engines:
        for setting in engine.settings:
            if run(engine, setting, -1) is not None and (speed := run(engine, setting, 0)) is not None:
                first[engine.name, setting] = speed
    top = {e.name: max((first[k] for k in first if k[0] == e.name), default=0.0) for e in engines}
    kept = [(e, s) for e in engines for s in e.settings if first.get((e.name, s), 0.0) > keep * top[e.name]]
    for seed in range(1, n_rounds + 1):
        for engine, setting in kept:
            if (speed := run(engine, setting, seed)) is not None:
                samples.setdefault((engine.name, setting), []).append(speed)
    results = []
    for engine in engines:
        for setting in engine.settings:
            key = engine.name, setting
            # What dropped out is shown with its one sample from before the rounds.
            of_setting = samples.get(key) or ([first[key]] if key in first else [])
            results.append(report.Result(engine.name, workload, setting, of_setting, errors.get(key)))
    return results


def cpu_name() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    numbers = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    return f"{fields.get('model name', 'unknown')} ({numbers})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure lossy beside llama.cpp and OpenVINO GenAI, in turns.")
    parser.add_argument("--model", required=True, help="smollm2, qwen, or a GGUF file")
    parser.add_argument("--tests", default="pp512,pp2048,tg128@0,tg128@8192", help="comma list, e.g. pp512,tg128@8192")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after those that warm up and choose")
    parser.add_argument("--engines", default="lossy,llama.cpp,openvino", help="comma list; ratios are the first's")
    parser.add_argument("--kv", default="f16", help="comma list of KV schemes: the settings of lossy")
    parser.add_argument("--settings", default="", help="only settings that match this expression, e.g. 'f16'")
    parser.add_argument("--keep", type=float, default=0.9, help="settings slower than this share of their engine's best"
                        " before the rounds take no part in them; 0: all do")
    parser.add_argument("--depth-fill", choices=["prefill", "copies"], default="prefill", help="how caches are filled;"
                        " copies: 2,048 tokens by a prefill, and copies of their keys and values behind them")
    parser.add_argument("--lossy", type=pathlib.Path, default=ROOT / "target" / "release" / "lossy")
    parser.add_argument("--llama-python", help="an interpreter that has llama-cpp-python, instead of an own environment")
    parser.add_argument("--openvino-python", help="an interpreter that has openvino-genai, likewise")
    parser.add_argument("--states", type=pathlib.Path, help="keep llama.cpp's filled caches here between runs")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="also write all samples as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        workloads = [parse_workload(text) for text in args.tests.split(",")]
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    try:
        model = fetch_test_models.path_of(args.model)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error}") from None
    engines, missing = [], []
    names = args.engines.split(",")
    for name in names:
        try:
            engines.append(start_engine(name, model, args))
        except EngineError as error:
            missing.append(f"{name} takes no part: {error}")
    for engine in engines:
        engine.settings = [setting for setting in engine.settings if re.search(args.settings, setting)]
        if not engine.settings:
            missing.append(f"{engine.name} takes no part: no setting of it matches {args.settings!r}")
    results = [result for workload in workloads for result in measure(engines, workload, args.rounds, args.keep)]
    about = {
        "model": model.name,
        "model_bytes": model.stat().st_size,
        "cpu": cpu_name(),
        "threads": args.threads,
        "rounds": args.rounds,
        "depth_fill": args.depth_fill,
        "versions": {engine.name: engine.version for engine in engines},
        "missing": missing,
        "machine": next((engine.machine() for engine in engines if isinstance(engine, Lossy)), {}),
    }
    for engine in engines:
        engine.close()

    print(f"{about['model']}, {about['model_bytes']} bytes; {about['cpu']}, {args.threads} threads;")
    print(f"medians of {args.rounds} rounds in turns, ± half the spread; the best setting of each engine")
    if args.depth_fill == "copies":
        print("depths (@ d) are filled with copies of the first 2,048 tokens")
    print()
    print(report.table(results, names))
    print("\n" + report.details(results) + "\n")
    if bandwidth := about["machine"].get("read_bytes_per_s"):
        print(f"- the machine reads {bandwidth / 1e9:.1f} GB/s with {args.threads} threads, as `lossy bench` measures it")
    for name, version in about["versions"].items():
        print(f"- {name}: {version}")
    for line in missing:
        print(f"- {line}")
    if args.output:
        args.output.write_text(json.dumps(report.as_json(results, about), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
