"""python3 -m unittest discover bench/peers"""
import unittest

import report
from workload import Workload, parse_workload

PP512, TG128_DEEP = Workload(512, 0, 0), Workload(0, 128, 8192)


class Workloads(unittest.TestCase):
    def test_both_spellings_of_a_depth_are_read(self):
        self.assertEqual(parse_workload("pp512"), PP512)
        self.assertEqual(parse_workload("tg128@8192"), TG128_DEEP)
        self.assertEqual(parse_workload("tg128 @ d8192"), TG128_DEEP)
        self.assertEqual(parse_workload("tg128@0"), Workload(0, 128, 0))

    def test_a_name_reads_back_as_the_same_workload(self):
        for workload in (PP512, TG128_DEEP, Workload(2048, 0, 512), Workload(0, 1, 0)):
            self.assertEqual(parse_workload(workload.name), workload)

    def test_anything_else_is_refused(self):
        for text in ("", "pp", "pp0", "tg-1", "512", "pp512@", "pp512tg128", "xx5"):
            with self.assertRaises(ValueError, msg=text):
                parse_workload(text)


class Reports(unittest.TestCase):
    results = [
        report.Result("lossy", PP512, "f16", [290.0, 300.0, 330.0]),
        report.Result("peer", PP512, "slow", [50.0]),
        report.Result("peer", PP512, "fast", [99.0, 100.0, 101.0]),
        report.Result("lossy", TG128_DEEP, "f16", [30.0]),
        report.Result("peer", TG128_DEEP, "fast", [], "no such context"),
    ]

    def test_the_best_setting_is_the_one_with_the_largest_median(self):
        self.assertEqual(report.best(self.results, "peer", PP512).setting, "fast")
        self.assertIsNone(report.best(self.results, "peer", TG128_DEEP))

    def test_the_table_has_the_ratio_of_medians_and_a_dash_where_an_engine_is_missing(self):
        lines = report.table(self.results, ["lossy", "peer"]).splitlines()
        self.assertEqual(lines[2], "| pp512 | 300.0 ± 7 % (f16) | 100.0 ± 1 % (fast) | 3.00× |")
        self.assertEqual(lines[3], "| tg128 @ d8192 | 30.0 ± 0 % (f16) | — | — |")

    def test_the_json_keeps_samples_and_errors(self):
        rows = report.as_json(self.results, {"threads": 2})["results"]
        self.assertEqual(rows[2]["samples_tokens_per_s"], [99.0, 100.0, 101.0])
        self.assertEqual(rows[2]["median_tokens_per_s"], 100.0)
        self.assertEqual(rows[4]["error"], "no such context")


if __name__ == "__main__":
    unittest.main()
