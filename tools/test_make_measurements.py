"""python3 -m unittest discover tools"""
import copy
import decimal
import json
import pathlib
import tempfile
import unittest

import make_measurements as mm

MACHINES = {"about": ["What stands here."], "machines": {"zen": {"name": "Zen", "about": "two cores"}}}
TABLE = {
    "title": "Speed, at 2,048 tokens",
    "machine": "zen",
    "date": "2026-11-27",
    "commit": "d05b8bc",
    "model": "SmolLM2",
    "command": ["lossy bench"],
    "columns": ["test", "t/s", "change"],
    "rows": [["pp2048", [1236, 3], -0.5], ["a | b", None, 2]],
    "notes": ["Quiet."],
}
PAGE = {"title": "Speed", "about": ["Words."], "tables": [TABLE]}


class Pages(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.folder = pathlib.Path(self.directory.name)
        self.write(mm.MACHINES, MACHINES)

    def write(self, name: str, value) -> None:
        (self.folder / name).write_text(json.dumps(value), encoding="utf-8")

    def made_with(self, **changes) -> str:
        """The page with these keys of its table changed; None removes a key."""
        page = copy.deepcopy(PAGE)
        page["tables"][0].update(changes)
        page["tables"][0] = {key: value for key, value in page["tables"][0].items() if value is not None}
        self.write("speed.json", page)
        return mm.made(self.folder)["speed.md"]

    def test_a_table_is_printed_with_its_machine_its_command_and_its_notes(self):
        text = self.made_with(spread=True)
        self.assertIn("[Zen](README.md#machines) · 2026-11-27 · lossy at d05b8bc · SmolLM2\n", text)
        self.assertIn("```sh\nlossy bench\n```\n", text)
        self.assertIn("| test | t/s | change |\n| --- | ---: | ---: |\n| pp2048 | 1,236 ± 3 % | −0.5 |\n", text)
        self.assertIn("| a \\| b | | 2 |\n", text)
        self.assertTrue(text.endswith("\n\nQuiet.\n"))

    def test_numbers_keep_the_digits_of_the_json(self):
        cells = json.loads("[0.0130, 1.00, 46.0, 1e-7, -1.040, 16384]", parse_float=decimal.Decimal)
        self.assertEqual([mm.number(cell) for cell in cells], ["0.0130", "1.00", "46.0", "1e-7", "−1.040", "16,384"])

    def test_a_table_without_a_known_machine_a_date_one_commit_or_a_command_is_an_error(self):
        self.made_with()
        self.made_with(commit=None, recorded="d05b8bc")
        wrong = [
            {"machine": "vax"},
            {"date": "yesterday"},
            {"commit": None},
            {"recorded": "d05b8bc"},
            {"commit": "main"},
            {"command": []},
            {"rows": []},
            {"rows": [["pp2048", 1]]},
            {"rows": [["pp2048", 1, True]]},
            {"machine": None},
            {"colour": "red"},
        ]
        for changes in wrong:
            with self.subTest(changes), self.assertRaises(mm.Wrong):
                self.made_with(**changes)

    def test_two_tables_of_a_page_have_two_titles(self):
        self.write("speed.json", {**PAGE, "tables": [TABLE, TABLE]})
        with self.assertRaises(mm.Wrong):
            mm.made(self.folder)

    def test_the_index_links_each_table_as_code_hosts_name_its_heading(self):
        self.made_with()
        index = mm.made(self.folder)[mm.INDEX]
        self.assertIn("- [Speed](speed.md)\n  - [Speed, at 2,048 tokens](speed.md#speed-at-2048-tokens)\n", index)
        self.assertIn("| Zen | two cores |\n", index)

    def test_a_page_that_was_edited_is_missing_or_has_no_json_is_found(self):
        self.made_with()
        texts = mm.made(self.folder)
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        self.assertEqual(mm.differences(self.folder, texts), [])
        (self.folder / "speed.md").write_text(texts["speed.md"].replace("1,236", "1,237").replace("1236", "1237"))
        (self.folder / mm.INDEX).unlink()
        (self.folder / "other.md").write_text("by hand")
        self.assertEqual(len(mm.differences(self.folder, texts)), 3)


if __name__ == "__main__":
    unittest.main()
