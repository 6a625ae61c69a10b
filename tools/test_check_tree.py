"""python3 -m unittest discover tools"""
import pathlib
import tempfile
import unittest

import check_tree


class Text(unittest.TestCase):
    def breaches(self, path: str, text: str) -> int:
        return len(check_tree.breaches_of_text(path, text))

    def test_a_path_of_a_machine_is_found_but_not_an_address_or_a_cache_directory(self):
        self.assertEqual(self.breaches("a.md", "see /home/somebody/models\nor /work/x\nor `/root/.cache/a`"), 3)
        self.assertEqual(self.breaches("a.md", "GET /v1/models, ~/.cache/lossy, https://x.org/home/a/b"), 0)

    def test_stubs_and_to_do_marks_are_found(self):
        self.assertEqual(self.breaches("a.rs", "fn a() { todo!() }\n// TODO: b\nfn c() { unimplemented!() }"), 3)
        self.assertEqual(self.breaches("a.rs", "// nothing left to do"), 0)

    def test_unsafe_is_allowed_in_kernels_and_in_the_file_that_maps_only(self):
        code = "let x = unsafe { read(p) };"
        self.assertEqual(self.breaches("crates/engine/src/a.rs", code), 1)
        self.assertEqual(self.breaches("crates/kernels/src/avx2.rs", code), 0)
        self.assertEqual(self.breaches("crates/formats/src/map.rs", code), 0)
        self.assertEqual(self.breaches("crates/engine/src/lib.rs", "#![forbid(unsafe_code)]"), 0)

    def test_switched_off_tests_are_found(self):
        self.assertEqual(self.breaches("a.rs", '#[ignore = "slow"]\nfn a() {}'), 1)


class Length(unittest.TestCase):
    def breaches(self, path: str, n_own: int, n_tests: int = 0, tests_only: bool = False, ceiling: int | None = None) -> list[str]:
        tests = "#[cfg(test)]\nmod tests {\n" + "\n" * (n_tests - 3) + "}\n" if n_tests else ""
        return check_tree.breaches_of_length(path, "\n" * n_own + tests, tests_only, ceiling)

    def test_a_file_has_400_lines_and_600_with_tests(self):
        self.assertEqual(self.breaches("crates/engine/src/a.rs", 400, 200), [])
        self.assertIn("401 lines without tests", self.breaches("crates/engine/src/a.rs", 401)[0])
        self.assertIn("601 lines with tests", self.breaches("crates/engine/src/a.rs", 300, 301)[0])

    def test_a_file_of_tests_has_600_lines(self):
        self.assertEqual(self.breaches("crates/engine/src/tests.rs", 600, tests_only=True), [])
        self.assertIn("601 lines", self.breaches("crates/engine/src/tests.rs", 601, tests_only=True)[0])

    def test_a_kernel_file_has_700_lines(self):
        self.assertEqual(self.breaches("crates/kernels/src/a.rs", 500, 200), [])
        self.assertIn("701 lines in the kernels crate", self.breaches("crates/kernels/src/a.rs", 500, 201)[0])

    def test_an_excused_file_may_not_grow_and_is_not_excused_for_ever(self):
        self.assertEqual(self.breaches("a.rs", 450, 100, ceiling=450), [])
        self.assertIn("more than 450", self.breaches("a.rs", 451, ceiling=450)[0])
        self.assertIn("need not excuse", self.breaches("a.rs", 400, ceiling=450)[0])
        self.assertEqual(self.breaches("tests.rs", 650, tests_only=True, ceiling=669), [])


class Links(unittest.TestCase):
    def test_a_link_must_lead_to_a_file_unless_it_is_an_address_or_code(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "docs").mkdir()
            (root / "docs" / "a.md").write_text("# Part one, `--kv`\n```sh\n# comment\n```\n")
            text = "[a](docs/a.md#part-one---kv) [b](docs/b.md) [c](https://x.org/y#z) `[d](e)`"
            self.assertEqual(check_tree.broken_links("README.md", text, root), ["README.md: link to docs/b.md, which is not there"])

    def test_a_fragment_must_be_the_name_of_a_heading(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "a.md").write_text("# [One](x.md) part\n```sh\n# comment\n```\n")
            text = "[a](a.md#one-part) [b](a.md#comment) [c](#none)"
            (root / "b.md").write_text(text)
            found = check_tree.broken_links("b.md", text, root)
            self.assertEqual([line.split(",")[0] for line in found], ["b.md: link to a.md#comment", "b.md: link to #none"])


if __name__ == "__main__":
    unittest.main()
