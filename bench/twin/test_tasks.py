"""The texts against those of the program's own tests; needs no PyTorch."""
import unittest

import tasks


class Texts(unittest.TestCase):
    def test_random_numbers_are_those_of_the_program(self):
        # The key of the seed 1 in crates/eval/src/tasks/passkey.rs.
        self.assertEqual(1 + tasks.Random(1, 0).below(50_000), 37_290)

    def test_sixteen_questions_share_one_text(self):
        samples = tasks.multi_passkey(3200, 3)
        self.assertEqual(len(samples), 16)
        texts = {sample.prompt.rsplit("\nWhat is", 1)[0] for sample in samples}
        self.assertEqual(len(texts), 1)
        for name, sample in zip(tasks.NAMES, samples):
            self.assertIn(f"Do not forget: the {name} is{sample.answer}.", sample.prompt)
            self.assertTrue(sample.prompt.endswith(f"What is the {name}? The {name} is"))

    def test_depth_moves_the_key_and_nothing_else(self):
        prompts = [tasks.passkey(2000, depth, 1)[0].prompt for depth in (0.0, 0.5, 1.0)]
        places = [prompt.index("The pass key is") for prompt in prompts]
        self.assertEqual(places, sorted(set(places)))
        self.assertEqual(len({len(prompt) for prompt in prompts}), 1)

    def test_questions_are_what_follows_the_text(self):
        encode = lambda text: list(text.encode())
        made = tasks.fitting(encode, lambda token: token == 32, lambda n, text: tasks.multi_passkey(n, text), 8000, 2, 128)
        self.assertEqual(len(made.texts), 2)
        self.assertLessEqual(len(made.texts[0]) + len(made.asked[0][0]), 8000)
        for asked, answers, starts in zip(made.asked, made.answers, made.starts):
            for tokens, answer, start in zip(asked, answers, starts):
                self.assertEqual(len(answer), 5)
                self.assertEqual(tokens[start:start + 5], answer)


if __name__ == "__main__":
    unittest.main()
