#!/usr/bin/env python3
"""What the twin finds in long texts: passkey and multi-passkey under position maps and KV schemes.

usage: python3 bench/twin/retrieval.py MODEL.gguf --task multi-passkey -c 32768 --texts 4 \\
           --positions linear adaptive:window=1024,reach=4608,growth=512 --kv f16 k2v2

The first setting is the reference of the changes. A scheme with codes needs `--calibration FILE`: the file that
`lossy calibrate MODEL.gguf` names. `--ask` asks under another map than the text was read with.
"""
import argparse
import json
import pathlib
import statistics

import tokenizers
import torch

import tasks
import twin


def encoder(model: twin.Model):
    pre = tokenizers.pre_tokenizers
    encoder = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {token: index for index, token in enumerate(model.tokens)},
            [tuple(merge.split(" ", 1)) for merge in model.merges],
        )
    )
    # That of SmolLM2.
    encoder.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    return lambda text: encoder.encode(text).ids


def answers(model: twin.Model, reader: twin.Reader, asked, wanted, starts) -> list[tuple[float, bool]]:
    """Of each question: log-probability of a digit of the answer, and whether greedy decoding says it."""
    log_probs = reader.ask(asked)
    n = wanted.shape[-1]
    at = starts[..., None] - 1 + torch.arange(n + 1, device=twin.DEVICE)
    rows = log_probs.gather(2, at[..., None].expand(*at.shape, log_probs.shape[-1]))
    mean = rows[:, :, :n].gather(3, wanted[..., None])[..., 0].mean(-1)
    said = rows.argmax(-1)
    digits = torch.tensor([token.isdigit() for token in model.tokens], device=twin.DEVICE)
    found = (said[..., :n] == wanted).all(-1) & ~digits[said[..., n]]
    return list(zip(mean.flatten().tolist(), found.flatten().tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", choices=["passkey", "multi-passkey"], default="multi-passkey")
    parser.add_argument("-c", "--tokens", type=int, default=7800)
    parser.add_argument("--texts", type=int, default=2, help="texts; passkey: depths, multi-passkey: 16 questions each")
    parser.add_argument("--batch", type=int, default=2, help="texts that are read at once")
    parser.add_argument("--positions", nargs="+", default=["linear"])
    parser.add_argument("--ask", nargs="+", default=[], help="maps to ask with, too")
    parser.add_argument("--kv", nargs="+", default=["f16"])
    parser.add_argument("--calibration", type=pathlib.Path)
    args = parser.parse_args()
    if args.calibration is None and args.kv != ["f16"]:
        parser.error("--calibration FILE is needed for codes")
    calibration = json.loads(args.calibration.read_text()) if args.calibration else None

    model = twin.Model(args.model)
    encode, is_blank = encoder(model), lambda token: not model.tokens[token].strip("Ġ")
    make = {
        "multi-passkey": lambda n_chars, text: tasks.multi_passkey(n_chars, text + 1),
        "passkey": lambda n_chars, text: tasks.passkey(n_chars, (text + 0.5) / args.texts, text + 1),
    }[args.task]
    found = tasks.fitting(encode, is_blank, make, args.tokens, args.texts, twin.PAGE)
    texts, asked, wanted, starts = (torch.tensor(rows, device=twin.DEVICE) for rows in found)
    print(f"{args.task}, {args.texts} texts of {texts.shape[1]} tokens, {twin.DEVICE}")
    print("| positions | asked with | kv | found | log-prob per token | change |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    reference = None
    for spelled in args.positions:
        for kv in args.kv:
            results = {}
            for first in range(0, args.texts, args.batch):
                batch = slice(first, first + args.batch)
                positions = twin.Positions(spelled, model)
                reader = twin.Reader(model, positions, twin.Cache(kv, calibration), texts[batch])
                for other in dict.fromkeys([spelled, *args.ask]):
                    reader.positions = twin.Positions(other, model)
                    one = answers(model, reader, asked[batch], wanted[batch], starts[batch])
                    results[other] = results.get(other, []) + one
            for other, rows in results.items():
                reference = reference or rows
                mean, error = mean_and_error([own for own, _ in rows])
                change, by = mean_and_error([own - exact for (own, _), (exact, _) in zip(rows, reference)])
                n_found = sum(is_found for _, is_found in rows)
                print(f"| {spelled} | {other if other != spelled else ''} | {kv} | {n_found}/{len(rows)} ", end="")
                print(f"| {mean:.3f} ± {error:.3f} | {change:+.3f} ± {by:.3f} |", flush=True)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


if __name__ == "__main__":
    main()
