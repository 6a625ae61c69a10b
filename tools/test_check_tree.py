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

    def test_switched_off_tests_and_very_long_files_are_found(self):
        self.assertEqual(self.breaches("a.rs", '#[ignore = "slow"]\nfn a() {}'), 1)
        self.assertEqual(self.breaches("a.rs", "\n" * 1001), 1)
        self.assertEqual(self.breaches("a.rs", "\n" * 1000), 0)


class Links(unittest.TestCase):
    def test_a_link_must_lead_to_a_file_unless_it_is_an_address_or_code(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "docs").mkdir()
            (root / "docs" / "a.md").touch()
            text = "[a](docs/a.md#part) [b](docs/b.md) [c](https://x.org/y) `[d](e)`"
            self.assertEqual(check_tree.broken_links("README.md", text, root), ["README.md: link to docs/b.md, which is not there"])


if __name__ == "__main__":
    unittest.main()
