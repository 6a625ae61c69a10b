"""python3 -m unittest discover bench/serve"""
import asyncio
import unittest

import http1
from fake_server import FakeServer
from http1 import BadResponse, Transcript, response_of

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"6\r\ndata: \r\n4\r\none\n\r\n0d\r\ndata:two\n\nxyz\r\n0\r\n\r\n"


class Responses(unittest.TestCase):
    def test_an_answer_is_the_same_wherever_it_is_cut(self):
        whole = response_of(Transcript(0.0, [(1.0, CHUNKED)], None))
        self.assertEqual(whole.body, b"data: one\ndata:two\n\nxyz")
        for at in range(1, len(CHUNKED)):
            cut = response_of(Transcript(0.0, [(1.0, CHUNKED[:at]), (2.0, CHUNKED[at:])], None))
            self.assertEqual((cut.body, [e.data for e in cut.events]), (whole.body, [b"one", b"two"]), at)

    def test_an_event_has_the_time_of_its_last_byte(self):
        at = CHUNKED.index(b"one") + 4
        pieces = [(1.0, CHUNKED[: at - 2]), (2.0, CHUNKED[at - 2:at]), (3.0, CHUNKED[at:])]
        events = response_of(Transcript(0.0, pieces, None)).events
        # The end of the first line is known when its chunk is whole.
        self.assertEqual([event.at_s for event in events], [3.0, 3.0])

    def test_an_answer_that_is_cut_short_is_refused(self):
        with_length = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        self.assertEqual(response_of(Transcript(0.0, [(1.0, with_length)], None)).body, b"hello")
        for answer in (CHUNKED, with_length):
            for end in range(len(answer)):
                pieces = [(1.0, answer[:end])] if end else []
                with self.assertRaises(BadResponse, msg=end):
                    response_of(Transcript(0.0, pieces, None))

    def test_what_came_before_the_client_left_is_understood(self):
        end = CHUNKED.index(b"0d\r\n")
        events = response_of(Transcript(0.0, [(1.0, CHUNKED[:end])], None), whole=False).events
        self.assertEqual([event.data for event in events], [b"one"])

    def test_what_is_no_http_is_refused(self):
        for answer in (b"SSH-2.0\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n"):
            with self.assertRaisesRegex(BadResponse, "no HTTP answer"):
                response_of(Transcript(0.0, [(1.0, answer)], None))
        with self.assertRaisesRegex(BadResponse, "size of a chunk is b'zz'"):
            response_of(Transcript(0.0, [(1.0, CHUNKED.replace(b"6\r\n", b"zz\r\n", 1))], None))


class Exchanges(unittest.TestCase):
    def test_a_request_gets_its_answer_and_a_refusal_says_why(self):
        async def talk():
            async with FakeServer() as server:
                answer = await http1.ask(server.address, "POST", "/tokenize", {"content": "a b a"})
                with self.assertRaisesRegex(BadResponse, "GET /x: 404 .*not here"):
                    await http1.ask(server.address, "GET", "/x")
                return answer

        self.assertEqual(asyncio.run(talk())["tokens"], [0, 1, 0])

    def test_nobody_there_and_no_end_are_errors(self):
        async def talk():
            async with FakeServer(first_pause_s=5) as server:
                asked = http1.request_bytes(server.address, "POST", "/v1/completions", {"prompt": [1], "max_tokens": 1})
                slow = await http1.exchange(server.address, asked, 0.1)
            gone = await http1.exchange(server.address, asked, 0.1)
            return slow.error, gone.error

        slow, gone = asyncio.run(talk())
        self.assertRegex(slow, "no end within")
        self.assertRegex(gone, "no connection")


if __name__ == "__main__":
    unittest.main()
