"""python3 -m unittest discover tools"""
import array
import math
import pathlib
import tempfile
import unittest

import compare_logits

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "testdata" / "golden"


def write_rows(folder: str, name: str, values: list[float]) -> pathlib.Path:
    path = pathlib.Path(folder) / name
    path.write_bytes(array.array("f", values).tobytes())
    return path


class KlDivergence(unittest.TestCase):
    def test_it_is_that_of_two_small_distributions(self):
        p, q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
        expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
        found = compare_logits.kl_divergence([math.log(x) + 3 for x in p], [math.log(x) - 7 for x in q])
        self.assertAlmostEqual(found, expected, places=12)

    def test_large_logits_do_not_overflow(self):
        self.assertAlmostEqual(compare_logits.kl_divergence([1e4, 0.0], [1e4, 0.0]), 0.0)


class Rows(unittest.TestCase):
    def test_a_file_that_holds_no_whole_rows_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = write_rows(folder, "rows.f32", [1.0] * 7)
            with self.assertRaises(SystemExit):
                compare_logits.read_rows(path, 3)


class Golden(unittest.TestCase):
    golden = GOLDEN / "smollm2" / "code.json"

    def test_the_reference_against_itself_differs_by_nothing(self):
        result = compare_logits.compare_with_golden(self.golden, self.golden.with_suffix(".logits.f32"))
        self.assertEqual((result.n_rows, result.n_same_top), (1, 1))
        self.assertAlmostEqual(result.kl[0], 0.0, places=12)
        self.assertLess(result.max_logprob_difference, 1e-5)

    def test_a_changed_top_logit_is_seen_in_every_column(self):
        (row,) = compare_logits.read_rows(self.golden.with_suffix(".logits.f32"), 49_152)
        top = max(range(len(row)), key=row.__getitem__)
        row[top] -= 100.0
        with tempfile.TemporaryDirectory() as folder:
            path = write_rows(folder, "rows.f32", list(row))
            result = compare_logits.compare_with_golden(self.golden, path)
        self.assertEqual(result.n_same_top, 0)
        self.assertGreater(result.kl[0], 1.0)
        self.assertAlmostEqual(result.max_logit_difference, 100.0, places=3)


if __name__ == "__main__":
    unittest.main()
