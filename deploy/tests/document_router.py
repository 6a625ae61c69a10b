#!/usr/bin/env python3
"""Where the request router of the Ray Serve application sends requests; no Ray is started.

usage: document_router.py [-v]        needs `ray[serve]` in this Python
"""
import asyncio
import json
import pathlib
import sys
import types
import unittest

import fleet

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "ray"))
import application  # noqa: E402

REPLICAS = [types.SimpleNamespace(replica_id=name) for name in ("one", "two", "three")]


class Router(unittest.TestCase):
    def setUp(self):
        # As Serve does it: the class comes from its bytes, and knows none of this module's classes.
        from ray.serve.config import RequestRouterConfig

        config = RequestRouterConfig(request_router_class=application.DocumentRouter)
        self.router = object.__new__(config.get_request_router_class())
        self.router.initialize_state()

    def ask(self, *messages: str, replicas=REPLICAS) -> str:
        """Where such a chat goes, and is then known to have gone."""
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text} for text in messages]}).encode()
        asked = application.Asked("POST", "/v1/chat/completions", {}, body, application.beginnings(body))
        pending = types.SimpleNamespace(args=[asked])
        chosen = asyncio.run(self.router.choose_replicas(list(replicas), pending))[0][0].replica_id
        self.router.on_request_routed(pending, chosen, None)
        return chosen

    def test_what_begins_alike_goes_to_one_replica(self):
        first, second = fleet.document(0), fleet.document(1)
        places = [self.ask(first, "Who?"), self.ask(second, "Who?")]
        self.assertNotEqual(places[0], places[1], "a new document goes where least was read")
        for number in range(20):
            self.assertEqual(self.ask(first, f"Question {number}?", "And?"), places[0])
            self.assertEqual(self.ask(second, f"Question {number}?"), places[1])

    def test_a_short_common_beginning_is_no_reason(self):
        system = "You are kind. " * 40
        places = {self.ask(system, fleet.document(number)) for number in range(3)}
        self.assertEqual(places, {"one", "two", "three"})

    def test_a_replica_that_is_gone_is_not_asked(self):
        place = self.ask(fleet.document(0))
        left = [replica for replica in REPLICAS if replica.replica_id != place]
        other = self.ask(fleet.document(0), replicas=left)
        self.assertNotEqual(other, place)
        self.assertEqual(self.ask(fleet.document(0)), other)

    def test_bodies_without_prompts_go_anywhere(self):
        for body in (b"", b"no JSON", b"[1]", b'{"prompt": 1}', json.dumps({"prompt": ["a" * 600]}).encode()):
            self.assertLessEqual(len(application.beginnings(body)), 1)

    def test_the_least_recently_used_beginnings_are_forgotten(self):
        self.router.most_beginnings = 10
        for number in range(5):
            self.ask(fleet.document(number))
        self.assertEqual(len(self.router.places), 10)


if __name__ == "__main__":
    unittest.main()
