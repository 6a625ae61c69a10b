"""From transcripts to figures: times of first tokens, between tokens, of whole answers; tokens per second; pauses."""
import json
import math
import statistics
from typing import NamedTuple

import http1


class Stream(NamedTuple):
    """One answer: times of its pieces of text, and what the server counted."""

    sent_s: float
    text_s: list[float]
    end_s: float
    n_prompt: int
    n_cached: int
    n_generated: int
    text: str
    error: str | None

    @property
    def first_s(self) -> float:
        """Time to the first token."""
        return self.text_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Times between pieces of text, which are tokens unless a server holds some back."""
        return [later - earlier for earlier, later in zip(self.text_s, self.text_s[1:], strict=False)]


def stream_of(transcript: http1.Transcript, left: bool = False) -> Stream:
    """Understand a stream of completions or chat; `left` is one that the client left before its end."""

    def failed(message: str) -> Stream:
        return Stream(transcript.sent_s, [], transcript.sent_s, 0, 0, 0, "", message)

    try:
        response = http1.response_of(transcript, whole=not left)
    except http1.BadResponse as error:
        return failed(str(error))
    if response.status != 200:
        return failed(f"{response.status}: {response.body[:300].decode(errors='replace')}")
    text, text_s, usage, done = [], [], {}, False
    for event in response.events:
        if event.data == b"[DONE]":
            done = True
            continue
        try:
            chunk = json.loads(event.data)
        except ValueError:
            return failed(f"an event is no JSON: {event.data[:120]!r}")
        if "error" in chunk:
            return failed(f"in the stream: {json.dumps(chunk['error'])[:300]}")
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            piece = choice.get("text") or (choice.get("delta") or {}).get("content")
            if piece:
                text.append(piece)
                text_s.append(event.at_s)
    if not left and not done:
        return failed("the stream ended without [DONE]")
    if not text_s:
        return failed("the answer has no text")
    return Stream(
        transcript.sent_s, text_s, response.end_s, usage.get("prompt_tokens", 0),
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
        usage.get("completion_tokens", 0), "".join(text), None,
    )


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank)."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: list[float], scale: float = 1000) -> dict[str, float]:
    """p50, p90, p99 and the largest; seconds become milliseconds."""
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: scale * percentile(values, share) for name, share in shares.items()}


def steady(streams: list[Stream], n_clients: int) -> float | None:
    """Pieces of text per second while `n_clients` answers were in the making at once; None if they never were.

    An answer is in the making from its first piece of text to its last. What is left out is how a run begins and ends,
    where fewer are busy.
    """
    changes = sorted([(s.text_s[0], 1) for s in streams] + [(s.text_s[-1], -1) for s in streams])
    busy, since, spans = 0, 0.0, []
    for at_s, change in changes:
        if busy >= n_clients > busy + change:
            spans.append((since, at_s))
        if busy < n_clients <= busy + change:
            since = at_s
        busy += change
    total_s = sum(end - start for start, end in spans)
    if total_s <= 0:
        return None
    inside = sum(start < at_s <= end for s in streams for at_s in s.text_s for start, end in spans)
    return inside / total_s


def summary(streams: list[Stream], n_clients: int | None) -> dict:
    """All figures of one load. Latencies are in milliseconds."""
    good = [stream for stream in streams if stream.error is None]
    errors: dict[str, int] = {}
    for stream in streams:
        if stream.error is not None:
            errors[stream.error] = errors.get(stream.error, 0) + 1
    told = {"n_requests": len(streams), "n_errors": len(streams) - len(good), "errors": errors}
    if not good:
        return told
    gaps = [gap for stream in good for gap in stream.gaps_s]
    median_s = statistics.median(gaps) if gaps else math.nan
    duration_s = max(s.end_s for s in good) - min(s.sent_s for s in good)
    n_generated, n_pieces = sum(s.n_generated for s in good), sum(len(s.text_s) for s in good)
    longest = [max(s.gaps_s) for s in good if s.gaps_s]
    told |= {
        "duration_s": duration_s,
        "n_prompt_tokens": sum(s.n_prompt for s in good),
        "n_cached_tokens": sum(s.n_cached for s in good),
        "n_generated_tokens": n_generated,
        "n_pieces": n_pieces,
        "generated_tokens_per_s": n_generated / duration_s,
        "pieces_per_s": n_pieces / duration_s,
        "steady_pieces_per_s": steady(good, min(n_clients or len(good), len(good))),
        "first_token_ms": spread([s.first_s for s in good]),
        "between_tokens_ms": spread(gaps),
        "whole_answer_ms": spread([s.end_s - s.sent_s for s in good]),
        "longest_pause_ms": spread(longest),
        "paused_share": sum(gap for gap in gaps if gap > 4 * median_s) / sum(gaps) if gaps else 0.0,
    }
    return told


def table(told: dict) -> str:
    """Markdown for people: the same figures."""
    lines = [f"{told['n_requests']} requests, {told['n_errors']} errors"]
    lines += [f"  {count} × {message}" for message, count in told["errors"].items()]
    if "duration_s" not in told:
        return "\n".join(lines)
    cached = 100 * told["n_cached_tokens"] / max(told["n_prompt_tokens"], 1)
    lines += [
        f"{told['duration_s']:.1f} s, {told['n_prompt_tokens']} tokens of prompts ({cached:.0f} % from the cache), "
        f"{told['n_generated_tokens']} generated in {told['n_pieces']} pieces",
        "",
        "| milliseconds | p50 | p90 | p99 | max |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    names = {
        "first_token_ms": "to the first token", "between_tokens_ms": "between tokens",
        "longest_pause_ms": "longest pause of each stream", "whole_answer_ms": "to the end",
    }
    for key, name in names.items():
        cells = " | ".join(f"{told[key][column]:.1f}" for column in ("p50", "p90", "p99", "max"))
        lines.append(f"| {name} | {cells} |")
    all_busy = told["steady_pieces_per_s"]
    lines += [
        "",
        "| tokens per second | |",
        "| --- | ---: |",
        f"| generated, first request to last answer | {told['generated_tokens_per_s']:.1f} |",
        f"| pieces of text while all clients were busy | {f'{all_busy:.1f}' if all_busy else '—'} |",
        "",
        f"{100 * told['paused_share']:.1f} % of the streams' time lies in gaps of more than four times the median",
    ]
    return "\n".join(lines)
