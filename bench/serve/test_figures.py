"""python3 -m unittest discover bench/serve"""
import math
import unittest

import figures
from figures import Stream
from http1 import Transcript


def stream(sent_s: float, text_s: list[float], error: str | None = None) -> Stream:
    return Stream(sent_s, text_s, text_s[-1] if text_s else sent_s, 10, 4, len(text_s), "x", error)


def transcript(*events: bytes) -> Transcript:
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Transcript(0.0, [(1.0, head + body)], None)


TEXT = b'{"choices": [{"index": 0, "text": "a"}]}'
USAGE = (
    b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1,'
    b' "prompt_tokens_details": {"cached_tokens": 5}}}'
)


class Streams(unittest.TestCase):
    def test_text_and_usage_are_read_from_both_interfaces(self):
        chat = b'{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}], "usage": null}'
        for piece in (TEXT, chat):
            found = figures.stream_of(transcript(piece, USAGE, b"[DONE]"))
            self.assertEqual((found.text, found.n_prompt, found.n_cached, found.n_generated), ("a", 9, 5, 1))
            self.assertIsNone(found.error)

    def test_a_piece_without_text_is_no_token(self):
        empty = b'{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}'
        found = figures.stream_of(transcript(empty, TEXT, empty, USAGE, b"[DONE]"))
        self.assertEqual(len(found.text_s), 1)

    def test_a_stream_that_fails_says_why(self):
        cases = [
            (transcript(TEXT, USAGE), r"without \[DONE\]"),
            (transcript(USAGE, b"[DONE]"), "no text"),
            (transcript(TEXT, b'{"error": {"message": "out of pages"}}'), "out of pages"),
            (transcript(b"{"), "no JSON"),
            (Transcript(0.0, [(1.0, b"HTTP/1.1 429 X\r\nContent-Length: 4\r\n\r\nlate")], None), "429: late"),
            (Transcript(0.0, [], "no connection: refused"), "refused"),
        ]
        for failing, why in cases:
            self.assertRegex(figures.stream_of(failing).error, why)

    def test_a_stream_that_the_client_left_needs_no_end(self):
        self.assertEqual(figures.stream_of(transcript(TEXT), left=True).text, "a")


class Figures(unittest.TestCase):
    def test_a_percentile_is_a_value_that_occurred(self):
        values = [5.0, 1.0, 4.0, 2.0, 3.0]
        self.assertEqual([figures.percentile(values, share) for share in (0.0, 0.2, 0.5, 0.9, 1.0)], [1, 1, 3, 5, 5])
        self.assertTrue(math.isnan(figures.percentile([], 0.5)))

    def test_the_summary_counts_times_tokens_pauses_and_errors(self):
        streams = [
            stream(0.0, [1.0, 1.1, 1.2, 1.3]),
            stream(0.5, [1.0, 1.1, 1.2, 2.2]),
            stream(0.0, [], "429: late"),
            stream(0.0, [], "429: late"),
        ]
        told = figures.summary(streams, 2)
        self.assertEqual((told["n_requests"], told["n_errors"], told["errors"]), (4, 2, {"429: late": 2}))
        self.assertAlmostEqual(told["duration_s"], 2.2)
        self.assertAlmostEqual(told["generated_tokens_per_s"], 8 / 2.2)
        self.assertAlmostEqual(told["first_token_ms"]["max"], 1000)
        self.assertAlmostEqual(told["between_tokens_ms"]["p50"], 100)
        self.assertAlmostEqual(told["longest_pause_ms"]["max"], 1000)
        self.assertAlmostEqual(told["paused_share"], 1 / 1.5)

    def test_the_steady_speed_is_that_of_the_time_when_all_were_busy(self):
        streams = [stream(0.0, [0.0, 1.0, 2.0, 3.0]), stream(0.0, [1.0, 1.5, 2.0])]
        # Both are busy from 1 to 2: three pieces end in that time.
        self.assertAlmostEqual(figures.steady(streams, 2), 3.0)
        self.assertAlmostEqual(figures.steady(streams, 1), 6 / 3)
        self.assertIsNone(figures.steady(streams, 3))

    def test_the_table_has_the_figures_and_the_errors(self):
        text = figures.table(figures.summary([stream(0.0, [1.0, 1.1]), stream(0.0, [], "429: late")], 1))
        self.assertIn("2 requests, 1 errors\n  1 × 429: late", text)
        self.assertIn("| to the first token | 1000.0 | 1000.0 | 1000.0 | 1000.0 |", text)
        self.assertIn("(40 % from the cache)", text)
        self.assertEqual(figures.table(figures.summary([stream(0.0, [], "x")], 1)), "1 requests, 1 errors\n  1 × x")


if __name__ == "__main__":
    unittest.main()
