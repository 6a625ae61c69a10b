"""python3 -m unittest discover tools"""
import pathlib
import tempfile
import unittest

import floors
import rust_modules

ORDERED = ("crates/low", "crates/high")
# A tree that keeps the rule: `high` stands on `low`, and `top` of it on `middle`, which stands on `base`.
TREE = {
    "Cargo.toml": '[workspace]\nmembers = ["crates/low", "crates/high", "crates/testkit"]\n',
    "crates/low/Cargo.toml": '[package]\nname = "low"\n\n[dev-dependencies]\ntestkit.workspace = true\n',
    "crates/low/src/lib.rs": "",
    "crates/high/Cargo.toml": '[package]\nname = "high"\n\n[dependencies]\nlow.workspace = true\n',
    "crates/high/src/lib.rs": "mod base;\nmod middle;\nmod top;\n\npub use base::Base;\npub use top::{Top, turn as spin};\n",
    "crates/high/src/base.rs": "use low::Low;\npub struct Base;\n",
    "crates/high/src/middle/mod.rs": "mod left;\nmod right;\nuse crate::Base;\npub struct Middle;\n",
    "crates/high/src/middle/left/mod.rs": "mod inner;\nuse super::Middle;\nuse super::super::base::Base;\n",
    "crates/high/src/middle/left/inner.rs": "",
    "crates/high/src/middle/right/mod.rs": "mod inner;\nuse super::left;\n",
    "crates/high/src/middle/right/inner.rs": "",
    "crates/high/src/top.rs": "use crate::{Base, middle::{self, Middle}};\npub struct Top;\npub fn turn() {}\n",
    "crates/testkit/Cargo.toml": '[package]\nname = "testkit"\n',
    "crates/testkit/src/lib.rs": "",
}


class Floors(unittest.TestCase):
    def breaches(self, changes: dict[str, str], ordered: tuple[str, ...] = ORDERED) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**TREE, **changes}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            return floors.breaches(root, ordered)

    def assert_breach(self, changes: dict[str, str], *words: str, ordered: tuple[str, ...] = ORDERED):
        """Exactly one breach, which says all of this."""
        found = self.breaches(changes, ordered)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def in_base(self, text: str) -> dict[str, str]:
        return {"crates/high/src/base.rs": text}

    def test_a_tree_that_keeps_the_rule_has_no_breach(self):
        self.assertEqual(self.breaches({}), [])

    def test_a_use_of_a_module_that_is_listed_later_is_found_with_its_line(self):
        text = "// base\n\nuse crate::{\n    middle::Middle,\n};\npub struct Base;\n"
        self.assert_breach(self.in_base(text), "crates/high/src/base.rs:4:", "base uses middle", "src/lib.rs lists after it")

    def test_a_list_in_another_order_is_found(self):
        text = TREE["crates/high/src/lib.rs"].replace("mod base;\nmod middle;", "mod middle;\nmod base;")
        found = self.breaches({"crates/high/src/lib.rs": text})
        self.assertEqual([line.split(": ")[1] for line in found], ["middle uses base, which crates/high/src/lib.rs lists after it"] * 2)

    def test_only_crates_of_the_list_keep_an_order(self):
        self.assertEqual(self.breaches(self.in_base("use crate::middle::Middle;\npub struct Base;\n"), ordered=()), [])

    def test_a_climb_by_super_is_found_from_any_depth(self):
        text = "use super::super::super::top::Top;\n"
        self.assert_breach({"crates/high/src/middle/left/inner.rs": text}, "inner.rs:1:", "middle uses top")
        text = "mod deep {\n    fn f(top: super::super::top::Top) {}\n}\npub struct Base;\n"
        self.assert_breach(self.in_base(text), "base.rs:2:", "base uses top")

    def test_nothing_hides_behind_a_name_that_the_root_exports(self):
        self.assert_breach(self.in_base("use crate::Top;\npub struct Base;\n"), "base.rs:1:", "base uses top")
        self.assert_breach(self.in_base("use crate::spin as f;\npub struct Base;\n"), "base.rs:1:", "base uses top")
        changes = {
            "crates/high/src/lib.rs": "mod base;\nmod middle;\nmod top;\n\npub use base::Base;\npub use top::*;\n",
            **self.in_base("use crate::Top;\npub struct Base;\n"),
        }
        self.assert_breach(changes, "base.rs:1:", "base uses top")

    def test_what_the_root_defines_stands_above_every_module(self):
        changes = {
            "crates/high/src/lib.rs": TREE["crates/high/src/lib.rs"] + "pub const N: usize = 1;\n",
            **self.in_base("pub struct Base([u8; crate::N]);\n"),
        }
        self.assert_breach(changes, "base.rs:1:", "base uses what crates/high/src/lib.rs defines")

    def test_a_path_within_code_is_found_but_not_one_in_comments_texts_and_attributes_of_documentation(self):
        self.assert_breach(self.in_base("pub struct Base;\nfn f() {\n    crate::top::turn();\n}\n"), "base.rs:3:", "base uses top")
        text = """//! [`crate::top`]
/* crate::top /* nested */ crate::top::Top */
pub struct Base;
const A: &str = "use crate::top::Top; \\" crate::top::turn()";
const B: &str = r#"a " crate::top::turn()"#;
const C: char = '"'; // crate::top::turn()
fn f<'a>(a: &'a str) -> char { '\\'' }
"""
        self.assertEqual(self.breaches(self.in_base(text)), [])
        self.assert_breach(self.in_base(text + "fn g() { crate::top::turn() }\n"), "base.rs:8:")

    def test_tests_may_look_anywhere(self):
        text = """pub struct Base;
#[cfg(test)]
use crate::top::Top;
#[cfg(all(test, not(loom)))]
mod tests {
    use crate::top::Top;
}
#[cfg(test)]
mod more_tests;
impl Base {
    #[cfg(test)]
    fn top(&self) -> crate::top::Top { crate::top::Top }
}
"""
        changes = {**self.in_base(text), "crates/high/src/base/more_tests.rs": "use crate::top::Top;\n"}
        self.assertEqual(self.breaches(changes), [])
        self.assert_breach(self.in_base(text + "fn f() { crate::top::turn() }\n"), "base.rs:14:")

    def test_what_tests_share_with_the_program_is_no_test(self):
        for predicate in ("not(test)", 'any(test, feature = "x")', 'feature = "test"'):
            text = f"pub struct Base;\n#[cfg({predicate})]\nuse crate::top::Top;\n"
            self.assert_breach(self.in_base(text), "base.rs:3:", "base uses top")

    def test_a_dependency_on_a_crate_that_is_listed_later_is_found(self):
        manifest = TREE["crates/low/Cargo.toml"] + '\n[dependencies]\nhigh.workspace = true\n'
        self.assert_breach({"crates/low/Cargo.toml": manifest}, "crates/low/Cargo.toml:8:", "depends on high")

    def test_a_development_dependency_counts_too_unless_it_is_the_crate_for_tests(self):
        manifest = TREE["crates/low/Cargo.toml"] + 'high = { path = "../high" }\n'
        self.assert_breach({"crates/low/Cargo.toml": manifest}, "crates/low/Cargo.toml:6:", "depends on high")
        manifest = TREE["crates/low/Cargo.toml"].replace("dev-dependencies", "target.'cfg(unix)'.dependencies")
        self.assert_breach({"crates/low/Cargo.toml": manifest}, "crates/low/Cargo.toml:5:", "depends on testkit")

    def test_folders_that_use_each_other_are_found(self):
        changes = {"crates/high/src/middle/left/inner.rs": "\nuse super::super::right;\n"}
        self.assert_breach(
            changes, "folders in a circle: middle::left → middle::right → middle::left", "left/inner.rs:2", "right/mod.rs:2"
        )

    def test_a_circle_of_folders_by_way_of_a_file_is_found_in_any_crate(self):
        changes = {
            "crates/high/src/middle/mod.rs": "mod between;\nmod left;\nmod right;\npub struct Middle;\n",
            "crates/high/src/middle/between.rs": "use super::right;\n",
            "crates/high/src/middle/left/inner.rs": "fn f() { crate::middle::between::g() }\n",
        }
        words = "middle::left → middle::between → middle::right → middle::left"
        self.assert_breach(changes, words, "left/inner.rs:1:", ordered=())

    def test_a_name_that_a_folder_passes_on_counts_as_where_it_comes_from(self):
        changes = {
            "crates/high/src/middle/mod.rs": "mod left;\nmod right;\nuse right::Right;\npub struct Middle;\n",
            "crates/high/src/middle/right/mod.rs": "mod inner;\nuse super::left;\npub struct Right;\n",
            "crates/high/src/middle/left/inner.rs": "use super::super::Right;\n",
        }
        self.assert_breach(changes, "middle::left → middle::right → middle::left", "left/inner.rs:1")


class Lines(unittest.TestCase):
    def test_lines_of_tests_are_not_counted_but_comments_are(self):
        text = "//! a\n\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    // b\n\n    fn b() {}\n}\n"
        self.assertEqual(rust_modules.n_lines_without_tests(text), 4)
        self.assertEqual(rust_modules.n_lines_without_tests("fn a() {}\n"), 1)


if __name__ == "__main__":
    unittest.main()
