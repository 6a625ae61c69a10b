"""The page at `/` in Chromium: a walk by keyboard, and what strangers' words do to it, which is nothing.

usage: page.py URL --chromium PROGRAM --axe FILE [--api-key KEY]

Real answers come from the server. Where an answer has to say something in particular (thinking, calls of tools, attacks), the
browser is given a scripted one in place of the server's; all else, the policy of the page too, is the server's own.
"""
import csv
import http.server
import io
import json
import pathlib
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from checks import Failed, Server, check, equal, expect, main, parser
from playwright.sync_api import Browser, Locator, Page, Route, sync_playwright

BROWSER: list[Browser] = []
LONG_MS = 60_000


class Opened:
    """The page in a browser profile of its own, and everything that it asked for or complained about."""

    def __init__(self, page: Page, root: str) -> None:
        self.page, self.root = page, root
        self.requests: list[str] = []
        self.bodies: list[dict] = []
        self.complaints: list[str] = []
        page.on("request", self.note)
        # Choosers are caught from the first one on.
        page.on("filechooser", lambda _chooser: None)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def note(self, request) -> None:
        self.requests.append(request.url)
        if request.url.endswith("/v1/chat/completions"):
            self.bodies.append(request.post_data_json)

    @property
    def draft(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.locator("#messages > .assistant")

    def ask(self, text: str) -> None:
        self.draft.fill(text)
        self.page.keyboard.press("Enter")

    def answered(self) -> str:
        """Waits for the answer, and returns its text."""
        self.page.wait_for_selector("#messages > .assistant:last-child .message-foot button[aria-label^=Copy]", timeout=LONG_MS)
        return self.answers.last.locator(".rich").last.inner_text()

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits until something holds; events of the page are noted meanwhile."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {seconds} s")
            self.page.wait_for_timeout(40)

    def ready(self) -> None:
        """Waits until the page knows its server, or asks for its key."""
        is_ready = "document.getElementById('model').textContent !== '' || document.querySelector('dialog[open]') !== null"
        self.until(lambda: self.page.evaluate(is_ready), "the page knows its server")

    def script(self, *chunks: dict, finish: str = "stop") -> None:
        """Answers the next chats with these deltas."""
        pieces = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in chunks]
        pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"

        def answer(route: Route) -> None:
            route.fulfill(status=200, content_type="text/event-stream", body=body)

        self.page.unroute("**/v1/chat/completions")
        self.page.route("**/v1/chat/completions", answer)

    def settle(self, fill: dict[str, str], is_default: bool = False) -> None:
        """Changes settings, by keyboard; `is_default`: of new conversations too."""
        self.page.keyboard.press("Alt+s")
        dialog = self.page.get_by_role("dialog")
        for label, value in fill.items():
            dialog.get_by_label(label, exact=True).fill(value)
        if is_default:
            dialog.get_by_label("New conversations begin with these").press("Space")
        dialog.get_by_role("button", name="Save").focus()
        self.page.keyboard.press("Enter")
        dialog.wait_for(state="detached")


@contextmanager
def opened(server: Server, width: int = 1280, colours: str = "light", path: str = "/") -> Iterator[Opened]:
    context = BROWSER[0].new_context(
        viewport={"width": width, "height": 800}, color_scheme=colours, accept_downloads=True, reduced_motion="reduce"
    )
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    # What the policy forbids is told to the page, and it forbids nothing of its own.
    page.add_init_script("addEventListener('securitypolicyviolation', (e) => (window.violations ??= []).push(e.blockedURI + ' ' + e.violatedDirective))")
    it = Opened(page, server.root)
    page.goto(server.root + path)
    it.ready()
    try:
        yield it
        equal("errors and dialogs", it.complaints, [])
        foreign = [url for url in it.requests if not url.startswith((server.root + "/", "data:", "blob:"))]
        equal("requests to other hosts", foreign, [])
    finally:
        context.close()


def violations(it: Opened) -> list[str]:
    return it.page.evaluate("window.violations ?? []")


def fast(it: Opened, tokens: int = 24) -> None:
    it.settle({"Temperature": "0", "Most tokens": str(tokens)})


def text_file(folder: pathlib.Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def prose(n_sentences: int) -> str:
    """A text that the server has never read."""
    return f"Timetable {time.time_ns()}. " + "".join(f"Sentence {n}: the ferry number {n * 7 % 101} leaves Dover at {n % 24} o'clock. " + "\n" * (n % 5 == 0) for n in range(n_sentences))


def choose(it: Opened, press: str, files: list[str] | str) -> None:
    with it.page.expect_file_chooser() as chooser:
        it.page.keyboard.press(press)
    chooser.value.set_files(files)


@check
def a_walk_by_keyboard(server: Server) -> None:
    with opened(server) as it:
        page = it.page
        it.settle({"System prompt": "You speak of ships.", "Temperature": "0", "Seed": "7", "Most tokens": "24"}, is_default=True)
        page.reload()
        it.ready()
        it.draft.focus()
        page.keyboard.type("What floats?")
        page.keyboard.press("Enter")
        first = it.answered()
        expect(first, "the answer has no text")
        body = it.bodies[0]
        equal("system prompt", body["messages"][0], {"role": "system", "content": "You speak of ships."})
        equal("question", body["messages"][1], {"role": "user", "content": "What floats?"})
        equal("sampling", [body[name] for name in ("temperature", "seed", "max_tokens")], [0, 7, 24])
        expect("top_p" not in body, "what was not set is sent")
        it.until(lambda: first[:20] in page.locator("#announcer").inner_text(), "the answer is announced")
        whole = server.ask("POST", "/v1/chat/completions", {key: body[key] for key in ("messages", "temperature", "seed", "max_tokens")})
        raw = whole.json()["choices"][0]["message"]["content"]
        equal("words of the answer", re.findall(r"\w+", first), re.findall(r"\w+", raw))

        # Again, then the version before, then a changed question, then a fork.
        page.keyboard.press("Alt+r")
        page.get_by_text("2 / 2").wait_for()
        it.answered()
        page.get_by_role("button", name="The version before").press("Enter")
        page.get_by_text("1 / 2").wait_for()
        page.keyboard.press("Alt+m")
        page.get_by_role("textbox", name="Edit your message").wait_for()
        page.keyboard.press("Control+a")
        page.keyboard.type("What sinks?")
        page.keyboard.press("Enter")
        it.until(lambda: len(it.bodies) == 3, "the changed question is asked")
        it.answered()
        equal("changed question", it.bodies[2]["messages"][1]["content"], "What sinks?")
        equal("messages of the changed conversation", len(it.bodies[2]["messages"]), 2)
        before = page.url
        it.answers.last.get_by_role("button", name="Fork").press("Enter")
        page.wait_for_url(lambda url: url != before)
        it.until(lambda: page.locator("#conversations li").count() == 2, "the fork is in the list")
        it.ask("And then?")
        it.until(lambda: len(it.bodies) == 4, "the fork goes on")
        it.answered()
        equal("messages of the fork", [message["role"] for message in it.bodies[3]["messages"]], ["system", "user", "assistant", "user"])
        # The other conversation is as it was, also after the page is loaded anew.
        page.goto(before)
        page.reload()
        page.get_by_text("What sinks?").last.wait_for()
        it.until(lambda: it.answers.count() == 1, "the first conversation has one answer")

        # Stop. The answer would not end by itself.
        fast(it, 4000)
        endless = lambda route: route.continue_(post_data={**route.request.post_data_json, "ignore_eos": True})
        page.route("**/v1/chat/completions", endless)
        it.ask("Write a very long story about the sea, with many chapters.")
        it.until(lambda: it.answers.count() == 2 and len(it.answers.last.inner_text()) > 40, "the answer has begun")
        page.keyboard.press("Escape")
        page.get_by_text("Stopped.").wait_for()
        page.unroute("**/v1/chat/completions", endless)
        it.until(lambda: server.ask("GET", "/server_info").json()["running"] == 0, "the server has stopped too")

        # Deleted; the other one is left.
        page.keyboard.press("Alt+l")
        page.keyboard.press("Alt+l")
        page.locator("#conversations li").first.get_by_role("button", name="Delete").press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
        it.until(lambda: page.locator("#conversations li").count() == 1, "one conversation is left")
        page.keyboard.press("Escape")
        page.locator("#main").focus()
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
        page.keyboard.press("Escape")
        equal("violations of the policy", violations(it), [])


@check
def a_long_document(server: Server) -> None:
    n_ctx = server.n_ctx()
    with opened(server) as it, tempfile.TemporaryDirectory() as name:
        page, folder = it.page, pathlib.Path(name)
        fast(it, 8)
        long = prose(110)
        n_tokens = len(server.ask("POST", "/tokenize", {"content": long, "parse_special": False}).json()["tokens"])
        choose(it, "Alt+a", text_file(folder, "timetable.txt", long))
        page.locator("#attachments").get_by_text(f"{n_tokens:,} tokens").wait_for()
        it.until(lambda: f"of {n_ctx:,} tokens" in page.locator("#room").inner_text(), "the room is told")
        it.ask("When does the first ferry leave?")
        page.locator(".progress").get_by_text(re.compile(r"of [\d,]+ tokens read.* tokens/s · .* left")).wait_for()
        it.answered()
        content = it.bodies[0]["messages"][0]["content"]
        expect(long in content and content.endswith("When does the first ferry leave?"), f"the prompt is {content[-200:]!r}")
        equal("messages shown", page.locator(".message.user .attachment").inner_text().split("\n")[0], "timetable.txt")
        it.ask("And the last?")
        it.until(lambda: len(it.bodies) == 2, "the second question is asked")
        it.answered()
        cached = page.locator("#panel dd", has_text="%").first.inner_text()
        share = float(re.search(r"\(([\d.]+) %\)", cached).group(1))
        expect(share > 80, f"only {cached} came from the cache")

        # Dropped; too long; no text.
        page.evaluate(
            """text => { const data = new DataTransfer(); data.items.add(new File([text], 'huge.txt'));
            for (const kind of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data})); }""",
            prose(900),
        )
        page.locator("#attachments").get_by_text("huge.txt").wait_for()
        page.locator("#attachments").get_by_text(re.compile(r"\d tokens")).wait_for()
        it.ask("Does this fit?")
        error = page.locator("#composer-error")
        error.wait_for()
        expect(f"{n_ctx:,}" in error.inner_text() and "does not fit" in error.inner_text(), error.inner_text())
        equal("requests after one that does not fit", len(it.bodies), 2)
        equal("what was written", it.draft.input_value(), "Does this fit?")
        page.get_by_role("button", name="Remove huge.txt").press("Enter")
        (folder / "photo.txt").write_bytes(b"\xff\xfe\x00\x01")
        choose(it, "Alt+a", str(folder / "photo.txt"))
        page.get_by_text("photo.txt is no text in UTF-8").wait_for()


QUESTIONS = '''type,name,instructions,choices,levels
predicate,=sum(1),"It is about ""ferries"", isn't it.",,
choice,port,@Where does it leave?,Dover = in England | Calais,
score,,How busy is it?,,empty|half full|full
'''


@check
def questions_about_a_document(server: Server) -> None:
    with opened(server) as it, tempfile.TemporaryDirectory() as name:
        page, folder = it.page, pathlib.Path(name)
        page.keyboard.press("Alt+q")
        page.get_by_role("button", name="Choose a document").focus()
        text = prose(40)
        choose(it, "Enter", text_file(folder, "ferries.txt", text))
        page.locator(".document").get_by_text("tokens").wait_for()
        page.get_by_role("button", name="Import questions").focus()
        choose(it, "Enter", text_file(folder, "questions.csv", QUESTIONS))
        it.until(lambda: page.locator("tbody tr").count() == 3, "the questions are imported")
        page.get_by_role("button", name="Ask all").press("Enter")
        it.until(lambda: page.locator(".result strong").count() == 3, "all are answered", 120)
        page.get_by_role("button", name="Ask all").wait_for()
        page.get_by_role("button", name="Export answers as CSV").focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        rows = list(csv.DictReader(io.StringIO(pathlib.Path(download.value.path()).read_text("utf-8"))))
        asked = [
            {"type": "predicate", "name": "=sum(1)", "instructions": 'It is about "ferries", isn\'t it.'},
            {"type": "choice", "name": "port", "instructions": "@Where does it leave?", "choices": [{"value": "Dover", "description": "in England"}, {"value": "Calais"}]},
            {"type": "score", "instructions": "How busy is it?", "levels": [{"label": "empty"}, {"label": "half full"}, {"label": "full"}]},
        ]
        told = server.ask("POST", "/v1/decisions", {"input": text, "questions": asked}).json()["answers"]
        equal("names, those that a spreadsheet would compute as text", [row["name"] for row in rows], ["'=sum(1)", "port", ""])
        equal("instructions", [row["instructions"] for row in rows], ['It is about "ferries", isn\'t it.', "'@Where does it leave?", "How busy is it?"])
        equal("answers", [rows[0]["answer"], rows[1]["answer"], float(rows[2]["answer"])], [str(told[0]["probability"] >= 0.5).lower(), told[1]["choice"], told[2]["score"]])
        equal("masses", [float(row["allowed_mass"]) for row in rows], [answer["allowed_mass"] for answer in told])
        equal("probabilities", json.loads(rows[1]["probabilities"]), told[1]["probabilities"])
        equal("probability of a predicate", json.loads(rows[0]["probabilities"])["true"], told[0]["probability"])
        expect(f"{told[0]['probability']:.3f}" in page.locator(".result").first.inner_text(), page.locator(".result").first.inner_text())

        # A question that is changed has no answer any more; one that is wrong is named, and nothing is asked.
        page.get_by_label("Text of question 1").fill("Is it?")
        equal("answers after a change", page.locator(".result strong").count(), 2)
        page.get_by_label("Answers of question 2").fill("Dover")
        page.get_by_role("button", name="Ask all").press("Enter")
        page.get_by_text("Question 2 has 1 choices, but may have 2 to 255").wait_for()
        for wrong, problem in {"type,question\n": "column “question” is unknown", 'type,instructions\npredicate,"x\n': "line 2: a quotation does not end", "type,instructions,choices\nchoice,x,a\n": "line 2: the question has 1 choices"}.items():
            page.get_by_role("button", name="Import questions").focus()
            choose(it, "Enter", text_file(folder, "wrong.csv", wrong))
            page.get_by_text(problem).wait_for()
        page.get_by_role("button", name="Import questions").focus()
        choose(it, "Enter", text_file(folder, "more.json", json.dumps({"questions": asked})))
        it.until(lambda: page.locator("tbody tr").count() == 6, "questions of JSON are imported")
        page.wait_for_timeout(800)
        page.reload()
        it.until(lambda: page.locator("tbody tr").count() == 6, "the table is kept")


@check
def csv_is_what_python_reads(server: Server) -> None:
    cells = ["plain", "a,b", 'say "so"', "two\nlines", "", " spaced ", "ü…🚢", '"', ",", "'quoted'"]
    rows = [cells, cells[::-1], ["=1", "+1", "-1", "@x", "\tx", "\rx", "1", "a=", "", "x"]]
    with opened(server) as it:
        made = it.page.evaluate("async rows => (await import('./page/csv.js')).writeCsv(rows)", rows)
        read = list(csv.reader(io.StringIO(made)))
        equal("rows that Python reads", read[:2], rows[:2])
        equal("texts that a spreadsheet would compute", read[2], ["'=1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "1", "a=", "", "x"])
        text = io.StringIO()
        csv.writer(text).writerows(rows[:2])
        parsed = it.page.evaluate("async text => (await import('./page/csv.js')).parseCsv(text)", text.getvalue())
        equal("rows that Python wrote", [record["cells"] for record in parsed], rows[:2])
        equal("lines", [record["line"] for record in parsed], [1, 3])


# What the page says of reasons that can come up here.
REASONS = {"first_seen": "No earlier prompt began like this one", "template_changed": "made with another template"}


@check
def figures_are_the_servers(server: Server) -> None:
    with opened(server) as it:
        streams: list[str] = []

        def overhear(route: Route) -> None:
            response = route.fetch()
            streams.append(response.text())
            route.fulfill(response=response)

        it.page.route("**/v1/chat/completions", overhear)
        fast(it)
        it.ask(f"{prose(12)} Say hello.")
        it.answered()
        figures = it.page.locator("#panel")
        props = server.ask("GET", "/props").json()
        usual = props["loss"][0]
        it.until(lambda: "tokens/s" in figures.inner_text(), "the rate is told")
        text = figures.inner_text()
        words = {"exact": "Exact: nothing is lost", "not measured": "Not measured", "measured": "KL divergence"}
        timings = next(json.loads(line[6:])["timings"] for line in streams[0].splitlines() if '"timings"' in line)
        miss, n_prompt = timings["cache_miss"], timings["cache_n"] + timings["prompt_n"]
        figure = lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        rates = [f"{timings[f'{part}_n']:,} at {figure(timings[f'{part}_per_second'])}" for part in ("prompt", "predicted")]
        for wanted in (usual["kv"], words[usual["status"]], f"of {server.n_ctx():,} tokens", f"{usual['bits_per_value']:.3g}", f"{n_prompt:,} tokens", f"from token {miss['token'] + 1:,}", REASONS[miss["reason"]], *rates):
            expect(wanted in text, f"{wanted!r} is not in the figures: {text}")
        counted = server.ask("POST", "/tokenize", {"messages": it.bodies[0]["messages"]}).json()["count"]
        expect(f"{counted:,} tokens" in text, f"a prompt of {counted} tokens is not in: {text}")
        # Another setting that the operator allows, and its certificate.
        other = props["loss"][1]
        it.page.keyboard.press("Alt+s")
        it.page.get_by_label("KV cache").select_option(other["kv"])
        it.page.get_by_role("button", name="Save").press("Enter")
        it.until(lambda: words[other["status"]] in figures.inner_text(), "the other certificate is shown")
        it.ask("Say hello again.")
        it.until(lambda: len(it.bodies) == 2, "the question is asked")
        it.answered()
        equal("kv of the request", it.bodies[1]["kv"], other["kv"])


@check
def thinking_is_folded_and_tools_are_answered(server: Server) -> None:
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    with opened(server) as it:
        it.settle({"Tools": json.dumps([tool])})
        calls = [{"index": 0, "id": "call_1", "function": {"name": "get_weather"}}, {"index": 0, "function": {"arguments": '{"city":'}}, {"index": 0, "function": {"arguments": '"Dover"}'}}]
        it.script({"reasoning_content": "They want "}, {"reasoning_content": "the weather."}, *({"tool_calls": [call]} for call in calls), finish="tool_calls")
        it.ask("How is the weather?")
        fold = it.page.locator("details.thinking")
        fold.wait_for()
        it.answered()
        equal("tools of the request", it.bodies[0]["tools"], [{"type": "function", "function": tool}])
        expect(not fold.evaluate("fold => fold.open"), "thinking is not folded")
        fold.locator("summary").press("Enter")
        it.page.get_by_text("They want the weather.").wait_for()
        equal("arguments", it.page.locator(".call pre").inner_text(), '{\n  "city": "Dover"\n}')
        it.script({"content": "It rains."})
        it.page.get_by_label("Result of get_weather").fill("rain")
        it.page.get_by_role("button", name="Send the result").press("Enter")
        it.page.get_by_text("It rains.").first.wait_for()
        sent = it.bodies[1]["messages"]
        equal("call", sent[1]["tool_calls"], [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Dover"}'}}])
        equal("result", sent[2], {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "rain"})
        # Tools that are no JSON are refused where they are written.
        it.page.keyboard.press("Alt+s")
        it.page.get_by_label("Tools", exact=True).fill("[{")
        it.page.get_by_role("button", name="Save").press("Enter")
        it.page.get_by_text("the tools are not JSON").wait_for()
        it.page.keyboard.press("Escape")


class Trap(http.server.BaseHTTPRequestHandler):
    """Another host, which must never be asked."""

    hits: list[str] = []

    def do_GET(self) -> None:
        Trap.hits.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_args) -> None:
        pass


def attacks(trap: str) -> str:
    """Markdown and markup that would run, leave or spy."""
    return f"""# Title
<script>window.owned = 1; fetch("{trap}/script")</script>
<img src="{trap}/img" onerror="window.owned = 2">

![picture]({trap}/markdown-image)
<svg onload="window.owned = 3"><image href="{trap}/svg"/></svg>
<iframe src="{trap}/frame" srcdoc="<script>parent.owned = 4</script>"></iframe>
<object data="{trap}/object"></object><embed src="{trap}/embed"><video src="{trap}/video" autoplay></video>
<style>@import url({trap}/css); body {{ display: none }}</style><link rel="stylesheet" href="{trap}/link">
<form action="{trap}/form" id="composer"><input name="send" autofocus onfocus="window.owned = 5"></form>
<a href="javascript:window.owned=6" id="messages" name="location">one</a> [two](javascript:window.owned=7) [three](data:text/html,x)
[four](  JaVaScRiPt:window.owned=8) <a href="vbscript:x" style="position:fixed;inset:0" onclick="window.owned=9">five</a>
<math><mtext><table><mglyph><style><img src=x onerror="window.owned=10"></style></mglyph></table></mtext></math>
<base href="{trap}/"><meta http-equiv="refresh" content="0;url={trap}/meta"> <noscript><p title="</noscript><img src=x onerror=window.owned=11>">

[good]({trap}/good "a title") and `<b>code</b>` and <b>bold</b>

```html"><img src=x onerror=window.owned=12>
<script>window.owned = 13</script>
```

| a | b |
| --- | --- |
| <img src="{trap}/cell"> | **x**<br>y |

- [x] done <script>window.owned = 14</script>
"""


@check
def hostile_answers_do_nothing(server: Server) -> None:
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    trap = f"http://127.0.0.1:{other.server_port}"
    urllib.request.urlopen(f"{trap}/works", timeout=10).read()
    equal("the trap notes who asks", Trap.hits, ["/works"])
    Trap.hits.clear()
    with opened(server) as it:
        # As blocks, and line by line within paragraphs.
        text = attacks(trap) + attacks(trap).replace("\n", "\n\nWords ")
        name = f'<img src="{trap}/name" onerror="window.owned=20">'
        call = {"index": 0, "id": name, "function": {"name": name, "arguments": text}}
        # Whole, and cut within tags as a stream cuts.
        it.script({"reasoning_content": text}, *({"content": text[at : at + 7]} for at in range(0, len(text), 7)), {"tool_calls": [call]}, finish="tool_calls")
        it.ask(text)
        it.answered()
        it.page.locator("details.thinking summary").press("Enter")
        it.page.keyboard.press("Alt+p")
        it.page.wait_for_timeout(700)
        equal("what ran", it.page.evaluate("window.owned ?? null"), None)
        found = it.page.evaluate(
            """() => [...document.querySelectorAll('#messages .rich *')].flatMap(node => {
              const bad = [...node.attributes].filter(({name}) => /^on|^style$|^id$|^name$|^src/.test(name)).map(({name}) => name);
              const tag = /^(SCRIPT|IMG|IFRAME|OBJECT|EMBED|VIDEO|STYLE|LINK|FORM|INPUT|BASE|META|SVG|MATH)$/i.test(node.tagName) && !node.closest('figcaption');
              return [...bad, ...(tag ? [node.tagName] : [])].filter(it => !(node.closest('.code') && it === 'style')); })"""
        )
        equal("tags and attributes that are not allowed", found, [])
        links = it.page.eval_on_selector_all("#messages .rich a", "links => links.map(link => [link.textContent, link.getAttribute('href'), link.rel, link.target])")
        hrefs = {text: href for text, href, _, _ in links if href}
        equal("the good link", hrefs.get("good"), f"{trap}/good")
        equal("the picture, as a link", hrefs.get("picture: picture"), f"{trap}/markdown-image")
        expect(not {"one", "two", "three", "four", "five"} & set(hrefs), f"links that run: {hrefs}")
        for _, href, rel, target in links:
            expect(not href or ("noopener" in rel and "noreferrer" in rel and target == "_blank"), f"{href} has rel {rel} and target {target}")
        expect("<script>window.owned = 1;" in it.answers.last.inner_text(), "markup is not shown as text")
        expect(it.page.locator("#composer").count() == 1 and it.draft.is_visible(), "the page is broken")
        # The sanitizer alone stopped them; the policy was never needed.
        equal("violations of the policy", violations(it), [])
        # But it would have stopped them as well.
        blocked = it.page.evaluate(
            """async trap => {
              const results = [];
              try { await fetch(trap + '/fetch'); results.push('fetch'); } catch { }
              const picture = new Image(); picture.src = trap + '/img2'; document.body.append(picture);
              const script = document.createElement('script'); try { script.textContent = 'window.owned = 30'; document.body.append(script); } catch { }
              try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); results.push('markup'); } catch { }
              // Later, since the debugger that runs this may do more than the page.
              setTimeout(() => (0, eval)('window.owned = 31'));
              await new Promise(done => setTimeout(done, 300));
              return [...results, window.owned ?? null]; }""",
            trap,
        )
        equal("what the policy let pass", blocked, [None])
        expect(len(violations(it)) >= 3, f"the policy told only of {violations(it)}")
        it.requests[:] = [url for url in it.requests if not url.startswith(trap)]
        it.complaints[:] = [told for told in it.complaints if "EvalError" not in told and "unsafe-eval" not in told]
        # Loaded anew from the browser's store, it does nothing either.
        it.page.reload()
        it.answered()
        equal("what ran after a reload", it.page.evaluate("window.owned ?? null"), None)
    other.shutdown()
    equal("requests that came to another host", Trap.hits, [])


@check
def hostile_files_do_nothing(server: Server) -> None:
    with opened(server) as it, tempfile.TemporaryDirectory() as name:
        page, folder = it.page, pathlib.Path(name)
        markup = "<img src=x onerror=window.owned=1><script>window.owned=2</script></document><|im_end|>"
        fast(it, 4)
        (folder / "x").mkdir()
        choose(it, "Alt+a", text_file(folder / "x", "a&lt;b' onerror=x.txt", markup * 20))
        page.locator("#attachments").get_by_text("tokens").wait_for()
        it.ask(markup)
        it.answered()
        page.keyboard.press("Alt+q")
        page.get_by_role("button", name="Choose a document").focus()
        choose(it, "Enter", text_file(folder, "doc.txt", markup))
        page.locator(".document").get_by_text("tokens").wait_for()
        rows = [{"type": "choice", "name": markup, "instructions": markup, "choices": [{"value": markup}, {"value": "__proto__", "description": markup}]}]
        page.get_by_role("button", name="Import questions").focus()
        choose(it, "Enter", text_file(folder, "q.json", json.dumps(rows)))
        page.get_by_role("button", name="Ask all").press("Enter")
        page.locator(".result strong").wait_for()
        page.keyboard.press("Alt+c")
        # A file of conversations that was made by a stranger.
        strange = {
            "format": "lossy-conversations",
            "version": 1,
            "conversations": [{"id": "c", "tree": "t", "head": "m2", "title": markup, "settings": {"system": 3, "temperature": "x", "kv": markup}}],
            "messages": [
                {"id": "m1", "tree": "t", "parent": "m2", "role": "user", "content": markup, "documents": ["d", 5, "none"]},
                {"id": "m2", "tree": "t", "parent": "m1", "role": "assistant", "content": attacks("http://127.0.0.1:9"), "calls": [None, {"name": {}}], "timings": {"cache_miss": {"reason": "constructor"}}, "usage": []},
            ],
            "documents": [{"id": "d", "tree": "t", "name": markup, "text": None, "size": "x"}],
        }
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Import").press("Enter")
        chooser.value.set_files(text_file(folder, "strange.json", json.dumps(strange)))
        page.locator("#messages .assistant h3", has_text="Title").wait_for()
        page.wait_for_timeout(300)
        equal("what ran", page.evaluate("window.owned ?? null"), None)
        for wrong, problem in {"{": "the file is not JSON", "[]": "no export of conversations", json.dumps({**strange, "version": 9}): "version 9", json.dumps({**strange, "messages": 1}): 'no list "messages"', json.dumps({**strange, "messages": strange["messages"] * 2}): "the id of another record"}.items():
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Import").press("Enter")
            chooser.value.set_files(text_file(folder, "wrong.json", wrong))
            page.get_by_role("dialog").get_by_text(problem).wait_for()
            page.keyboard.press("Escape")
        equal("violations of the policy", violations(it), [])


@check
def huge_lines_do_not_freeze_it(server: Server) -> None:
    # What parsers of Markdown are slow at, each as long as the longest piece that the parser gets.
    slow = ["[" * 15_000, "*a" * 7_000, "`" * 15_000 + "x", "<" * 15_000, "> " * 1_900, "a" + "_" * 15_000, "![" * 7_000, "| a " * 900 + "\n" + "|-" * 900 + "|", "- " * 1_900, "\\(" * 7_000, "<!--" * 3_500, "&" * 15_000, "[a](<" * 3_000, "www." * 3_500]
    lines = lambda text: "\n".join(text[at : at + 3_900] for at in range(0, len(text), 3_900))
    texts = ["x" * 2_000_000, "word " * 400_000, "```\n" + "y = 1\n" * 200_000, "~~~\n" + "z" * 1_500_000, *slow, *map(lines, slow)]
    with opened(server) as it:
        it.page.evaluate("window.longest = 0; let last = performance.now(); setInterval(() => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; }, 10)")
        for text in texts:
            it.page.evaluate("window.longest = 0")
            size = max(len(text) // 20, 1)
            it.script(*({"content": text[at : at + size]} for at in range(0, len(text), size)))
            it.page.goto(f"{server.root}/#chat")
            it.page.keyboard.press("Alt+n")
            it.until(lambda: it.answers.count() == 0, "an empty conversation")
            it.ask("Go on.")
            it.answered()
            it.page.wait_for_timeout(30)
            longest = it.page.evaluate("window.longest")
            # What is quadratic takes minutes; a busy machine, seconds.
            expect(longest < 20_000, f"{text[:12]!r} × {len(text)} held the page for {longest:.0f} ms")
        shown = it.page.evaluate("async text => (await import('./page/segments.js')).segments(text).map(({kind}) => kind)", "a\n\n" + "x" * 9000 + "\n\n```\ncode\n```\nend")
        equal("segments", shown, ["markdown", "plain", "code", "markdown"])


@check
def conversations_are_exported_and_imported(server: Server) -> None:
    with opened(server) as it, tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        it.script({"reasoning_content": "hm"}, {"content": "**Yes.**"})
        it.settle({"System prompt": "Be brief."})
        choose(it, "Alt+a", text_file(folder, "a.txt", "Some text."))
        it.page.locator("#attachments").get_by_text("tokens").wait_for()
        it.ask("Is it so?")
        it.answered()
        it.page.keyboard.press("Alt+r")
        it.page.get_by_text("2 / 2").wait_for()
        it.answered()
        with it.page.expect_download() as download:
            it.page.get_by_role("button", name="Export all").press("Enter")
        saved = pathlib.Path(download.value.path()).read_text("utf-8")
        path = text_file(folder, "saved.json", saved)
    with opened(server) as it:
        with it.page.expect_file_chooser() as chooser:
            it.page.get_by_role("button", name="Import", exact=True).press("Enter")
        chooser.value.set_files([{"name": "saved.json", "mimeType": "application/json", "buffer": saved.encode()}])
        it.page.get_by_text("2 / 2").wait_for()
        equal("text", it.answers.last.locator("strong").inner_text(), "Yes.")
        it.script({"content": "No."})
        it.ask("Sure?")
        it.until(lambda: len(it.bodies) == 1, "the question is asked")
        it.answered()
        sent = it.bodies[0]["messages"]
        equal("roles", [message["role"] for message in sent], ["system", "user", "assistant", "user"])
        expect("Some text." in sent[1]["content"] and sent[1]["content"].endswith("Is it so?"), str(sent[1]))
        with it.page.expect_download() as download:
            it.page.get_by_role("button", name="Export all").press("Enter")
        again = json.loads(pathlib.Path(download.value.path()).read_text("utf-8"))
        old = json.loads(saved)
        equal("messages", sorted(m["content"] for m in again["messages"])[-3:], sorted([*(m["content"] for m in old["messages"]), "No.", "Sure?"])[-3:])
        expect({m["id"] for m in again["messages"]}.isdisjoint({m["id"] for m in old["messages"]}), "ids are new")


def axe(it: Opened, source: str, where: str) -> None:
    # Through the debugger's door, which the page's policy does not concern.
    it.page.evaluate(source)
    found = it.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations)")
    told = [f"{rule['id']} ({rule['impact']}): {rule['help']}: {rule['nodes'][0]['html'][:150]}" for rule in found]
    equal(f"findings of axe, {where}", told, [])


@check
def axe_finds_nothing(server: Server) -> None:
    source = pathlib.Path(server.options.axe).read_text("utf-8")
    for colours in ("light", "dark"):
        with opened(server, colours=colours) as it:
            axe(it, source, f"welcome, {colours}")
            calls = [{"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}]
            it.script({"reasoning_content": "hm"}, {"content": "# Title\n\nText with [a link](http://127.0.0.1/).\n\n```py\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"}, {"tool_calls": calls}, finish="tool_calls")
            it.ask("What?")
            it.answered()
            axe(it, source, f"chat, {colours}")
            it.page.keyboard.press("Alt+s")
            axe(it, source, f"settings, {colours}")
            it.page.keyboard.press("Escape")
            it.page.goto(f"{server.root}/#questions")
            it.page.get_by_role("button", name="Ask all").press("Enter")
            it.page.get_by_role("alert").last.wait_for()
            axe(it, source, f"questions, {colours}")
    with opened(server, width=320) as it:
        axe(it, source, "narrow")


@check
def it_fits_a_narrow_window_and_has_two_colours(server: Server) -> None:
    with opened(server, width=320) as it:
        it.script({"content": "A" * 300 + "\n\n| a | b | c | d |\n|---|---|---|---|\n| " + " | ".join(["long words here"] * 4) + " |\n\n```\n" + "x" * 300 + "\n```"})
        it.ask("W" * 200)
        it.answered()
        for view in ("#chat", "#questions"):
            it.page.goto(f"{server.root}/{view}")
            it.page.wait_for_timeout(200)
            equal(f"width of {view}", it.page.evaluate("document.documentElement.scrollWidth"), 320)
        it.page.goto(f"{server.root}/#chat")
        it.page.get_by_role("button", name="Figures").press("Enter")
        it.page.get_by_role("heading", name="Certificate").wait_for()
        it.page.keyboard.press("Escape")
        expect(not it.page.locator("#panel").is_visible(), "Escape leaves the column open")
    with opened(server, colours="dark") as it:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = it.page.evaluate(ground)
        it.page.keyboard.press("Alt+t")
        light = it.page.evaluate(ground)
        expect(dark != light, f"both colours are {dark}")
        it.page.reload()
        equal("colours after a reload", it.page.evaluate(ground), light)


@check
def the_secret_is_asked_for_and_kept_for_the_tab(server: Server) -> None:
    with opened(server) as it:
        dialog = it.page.get_by_role("dialog", name="This server needs a key")
        dialog.wait_for()
        it.page.keyboard.type("wrong")
        it.page.keyboard.press("Enter")
        dialog.get_by_text("does not know this key").wait_for()
        it.page.keyboard.type(server.api_key or "")
        it.page.keyboard.press("Enter")
        dialog.wait_for(state="detached")
        it.until(lambda: it.page.locator("#model").inner_text() == server.model, "the model is named")
        fast(it, 4)
        it.ask("Hello")
        it.answered()
        it.page.reload()
        it.until(lambda: it.page.locator("#model").inner_text() == server.model, "the key is kept")
        kept = it.page.evaluate("JSON.stringify({...localStorage})")
        expect((server.api_key or "?") not in kept, "the key outlives the tab")


def arguments():
    made = parser("The page at / in Chromium.")
    made.add_argument("--chromium", required=True, help="the browser")
    made.add_argument("--axe", required=True, help="axe.min.js of axe-core")
    return made


if __name__ == "__main__":
    program = arguments().parse_args().chromium
    with sync_playwright() as playwright:
        # A container has no namespaces for the browser's own sandbox; no page but the server's is opened.
        BROWSER.append(playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]))
        code = main(arguments())
        BROWSER[0].close()
    sys.exit(code)
