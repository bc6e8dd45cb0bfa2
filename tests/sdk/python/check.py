"""The official OpenAI SDK for Python against a running gateway; see ../README.md."""

import http.client
import json
import os
import pathlib
import struct
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from openai import OpenAI

BASE_URL = os.environ["BASE_URL"].rstrip("/")
KEYS = json.loads(os.environ["KEYS"])
PLAIN = os.environ.get("SDK_PLAIN") == "1"
REFUSALS = json.loads((pathlib.Path(__file__).parent.parent / "refusals.json").read_text("utf-8"))
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}

failures = []
passed = 0


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on and counts them."""

    protocol_version = "HTTP/1.1"
    target = urllib.parse.urlsplit(BASE_URL)
    count = 0
    lock = threading.Lock()

    def pass_on(self):
        with Proxy.lock:
            Proxy.count += 1
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        upstream = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.send_header("transfer-encoding", "chunked")  # so that a break is seen as one
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):
            pass  # a broken answer is passed on as a broken connection
        finally:
            upstream.close()
            self.close_connection = True

    do_GET = do_POST = do_DELETE = pass_on

    def log_message(self, *_):
        pass


def check(name, condition, detail=""):
    global passed
    if condition:
        passed += 1
    else:
        failures.append(f"{name}: {detail}")
        print(f"FAILED {name}: {detail}", file=sys.stderr)


def client(key, retries=3, root=False):
    path = "" if root else Proxy.target.path
    base = f"http://127.0.0.1:{server.server_port}{path}"
    return OpenAI(api_key=key, base_url=base, max_retries=retries, timeout=30)


def ask(text):
    return [{"role": "user", "content": text}]


def check_chat(healthy):
    raw = healthy.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=ask("hello"))
    answer = raw.parse()
    check("chat", answer.choices[0].message.content == "echo: hello", answer)
    check("chat usage", answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0)
    if not PLAIN:
        check("request id", answer._request_id.startswith("req_"), answer._request_id)
        check("cost header", "x-tallygate-cost" in raw.headers, dict(raw.headers))
    short = healthy.chat.completions.create(model="demo-no-usage", messages=ask("hello"), max_tokens=2)
    check("a cap shortens the answer", short.choices[0].finish_reason == "length", short)
    several = healthy.chat.completions.create(model="gpt-5-mini", messages=ask("hello"), n=2)
    check("several answers", [choice.message.content for choice in several.choices] == ["echo: hello"] * 2, several)
    cached = healthy.chat.completions.create(model="deepseek-chat", messages=ask("hello"))
    check("another provider's words", cached.usage.prompt_cache_hit_tokens == 0, cached.usage)


def check_streams(healthy):
    text = "the quick brown fox jumps over the lazy dog"
    for model in ("gpt-5-mini", "demo-slow", "deepseek-chat"):
        chunks = list(healthy.chat.completions.create(model=model, messages=ask(text), stream=True))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        check(f"stream {model}", said.startswith(f"echo: {text}"), said)
        check(f"stream {model} ends", chunks[-1].choices[0].finish_reason == "stop", chunks[-1])
        if model != "deepseek-chat":  # whose own last chunk carries it, asked or not
            check(f"stream {model} is silent on usage", all(chunk.usage is None for chunk in chunks))
    options = {"include_usage": True}
    chunks = list(
        healthy.chat.completions.create(model="gpt-5-mini", messages=ask(text), stream=True, stream_options=options)
    )
    check("stream usage", chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0, chunks[-1])
    check("stream usage comes once", sum(chunk.usage is not None for chunk in chunks) == 1)
    try:
        chunks = list(healthy.with_options(max_retries=0).chat.completions.create(
            model="demo-cut", messages=ask(text), stream=True))
        check("a cut stream raises", False, "it ended as if it were whole")
    except openai.APIError as error:
        check("a cut stream raises", PLAIN or getattr(error, "code", None) == "stream_interrupted", repr(error))
    except Exception as error:  # a plain server just breaks the connection off
        check("a cut stream raises", PLAIN, repr(error))


def check_tools_and_pictures(healthy):
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    called = healthy.chat.completions.create(model="gpt-5-mini", messages=ask("now #tool"), tools=[tool])
    call = called.choices[0].message.tool_calls[0].function
    check("tool call", (call.name, json.loads(call.arguments)) == ("look_up", {"echo": "now #tool"}), called)
    chunks = healthy.chat.completions.create(model="gpt-5-mini", messages=ask("now #tool"), tools=[tool], stream=True)
    pieces = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
    arguments = "".join(piece[0].function.arguments for piece in pieces)
    check("streamed tool call", json.loads(arguments) == {"echo": "now #tool"}, arguments)
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": pixel}}]
    seen = healthy.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": parts}])
    check("picture", seen.choices[0].message.content == "echo: see [1 image(s)]", seen)


def check_completions(healthy):
    text = healthy.completions.create(model="gpt-5-mini", prompt="hello", max_tokens=60)
    check("completion", text.choices[0].text == "echo: hello" and text.usage.total_tokens > 0, text)
    chunks = list(healthy.completions.create(model="gpt-5-mini", prompt="hello", max_tokens=60, stream=True))
    check("completion stream", "".join(chunk.choices[0].text for chunk in chunks) == "echo: hello", chunks)


def check_responses(healthy):
    answer = healthy.responses.create(model="gpt-5-mini", input="hello", max_output_tokens=60)
    check("response", (answer.output_text, answer.status) == ("echo: hello", "completed"), answer)
    check("response usage", answer.usage.output_tokens_details.reasoning_tokens > 0, answer.usage)
    with healthy.responses.stream(model="gpt-5-mini", input="hello") as stream:
        kinds = [event.type for event in stream]
        check("response stream", stream.get_final_response().output_text == "echo: hello", kinds)
    check("response stream ends", kinds[-1] == "response.completed" and "response.output_text.delta" in kinds, kinds)
    tool = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}, "strict": False}
    called = healthy.responses.create(model="gpt-5-mini", input="now #tool", tools=[tool]).output[0]
    check("response tool call", (called.type, called.name) == ("function_call", "look_up"), called)
    try:
        list(healthy.with_options(max_retries=0).responses.create(model="demo-cut", input="one two three four", stream=True))
        check("a cut response raises", False, "it ended as if it were whole")
    except openai.APIError as error:
        check("a cut response raises", PLAIN or getattr(error, "code", None) == "stream_interrupted", repr(error))
    except Exception as error:  # a plain server just breaks the connection off
        check("a cut response raises", PLAIN, repr(error))


def wave(samples=16_000):
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + samples * 2, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                       b"data", samples * 2)
    return ("a.wav", head + bytes(samples * 2), "audio/wav")


def check_embeddings(healthy):
    vectors = healthy.embeddings.create(model="demo-embedding", input=["one", "two"], dimensions=5)
    check("embeddings", [len(row.embedding) for row in vectors.data] == [5, 5] and vectors.usage.total_tokens > 0, vectors)


def check_images(healthy):
    drawn = healthy.images.generate(model="demo-image", prompt="a cat", n=2, size="1792x1024")
    check("pictures", len(drawn.data) == 2 and drawn.data[0].revised_prompt == "echo: a cat", drawn)
    drawn = healthy.images.generate(model="demo-image-tokens", prompt="a cat", quality="low")
    check("pictures by tokens", drawn.data[0].b64_json and drawn.usage.output_tokens > 0, drawn)
    events = list(healthy.images.generate(model="demo-image-tokens", prompt="a cat", stream=True))
    check("picture stream", [event.type for event in events] == ["image_generation.completed"], events)
    picture = ("a.png", b"\x89PNG", "image/png")
    edited = healthy.images.edit(model="demo-image-tokens", image=[picture, picture], prompt="with a hat")
    check("picture changed", edited.usage.input_tokens_details.image_tokens > 0, edited)


def check_speech(healthy):
    spoken = healthy.audio.speech.create(model="demo-speech", voice="alloy", input="hello")
    check("speech", spoken.content == b"ID3\x04echo: hello", spoken.content)
    with healthy.audio.speech.with_streaming_response.create(model="demo-speech", voice="alloy", input="hello") as told:
        check("speech in pieces", b"".join(told.iter_bytes()) == b"ID3\x04echo: hello")


def check_transcriptions(healthy):
    written = healthy.audio.transcriptions.create(model="demo-transcribe", file=wave())
    check("transcript", written.text.startswith("echo: 32044 bytes") and written.usage.seconds == 2.0, written)
    events = list(healthy.audio.transcriptions.create(model="demo-transcribe-tokens", file=wave(), stream=True))
    check("transcript stream", events[-1].type == "transcript.text.done" and events[-1].usage.total_tokens > 0, events)


def check_moderations(healthy):
    judged = healthy.moderations.create(input=["kind", "#flag"])
    check("moderation", [result.flagged for result in judged.results] == [False, True], judged)


def check_rerank(healthy):
    body = {"model": "demo-rerank", "query": "apple", "documents": ["a sky", "an apple"], "top_n": 1}
    ranked = healthy.post("/rerank", body=body, cast_to=object)
    check("rerank", ranked["results"][0]["index"] == 1, ranked)


def check_videos(healthy):
    if PLAIN:
        return
    video = healthy.videos.create_and_poll(model="demo-video", prompt="a cat", seconds="4", poll_interval_ms=100)
    check("video", (video.status, video.seconds) == ("completed", "4"), video)
    check("video retrieved", healthy.videos.retrieve(video.id).status == "completed")
    check("videos listed", video.id in [row.id for row in healthy.videos.list()])
    check("video content", len(healthy.videos.download_content(video.id).content) > 0)
    check("video deleted", healthy.videos.delete(video.id).deleted)


def check_models(healthy):
    names = {model.id for model in healthy.models.list()}
    check("models", {"gpt-5-mini", "deepseek-chat", "demo-slow"} <= names, names)


def check_rate(_):
    """A rate is the one thing that a retry helps with: the SDK waits as long as it is told to."""
    if "qps_one" not in KEYS or PLAIN:
        return
    limited, before, calls = client(KEYS["qps_one"]), Proxy.count, 4
    for _ in range(calls):
        answer = limited.chat.completions.create(model="gpt-5-mini", messages=ask("hello"))
        check("a rate lets the retried call pass", answer.choices[0].message.content == "echo: hello", answer)
    retries = Proxy.count - before - calls
    check("a rate is retried, once for a call", 1 <= retries < calls, f"{retries} retries of {calls} calls")


def refused(case, retries):
    """The exception of a refusal and how many requests it led to."""
    key = case.get("key_text") or KEYS[case["key"]]
    if case.get("key_edit") == "truncate":
        key = key[:-5]
    body = {"model": case.get("model", "gpt-5-mini"), "messages": ask("hello"), **case.get("body", {})}
    before = Proxy.count
    try:
        client(key, retries, case.get("base") == "root").chat.completions.create(**body)
    except openai.APIError as error:
        return error, Proxy.count - before
    return None, Proxy.count - before


def check_refusal(case):
    name = case["name"]
    error, requests = refused(case, 3 if case["status"] < 500 else 1)
    if error is None:
        return check(name, False, "the call was admitted")
    check(f"{name}: class", type(error).__name__ == case["class"], repr(error))
    check(f"{name}: status", error.status_code == case["status"], repr(error))
    check(f"{name}: code", error.code in case["codes"], repr(error))
    if "param" in case and not PLAIN:
        check(f"{name}: param", error.param == case["param"], repr(error))
    if PLAIN:
        return None
    check(f"{name}: words", case.get("never_says", "\0") not in str(error), repr(error))
    check(f"{name}: request id", (error.request_id or "").startswith("req_"), error.request_id)
    headers = error.response.headers
    if case.get("retry_after"):
        check(f"{name}: Retry-After", "retry-after" in headers, dict(headers))
    if error.body["retryable"]:
        check(f"{name}: is retried", requests == 2, f"{requests} requests with one retry allowed")
    else:
        check(f"{name}: x-should-retry", headers.get("x-should-retry") == "false", dict(headers))
        if case["status"] >= 500:
            error, requests = refused(case, 3)
        check(f"{name}: one request", requests == 1, f"{requests} requests")
    return None


server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=server.serve_forever, daemon=True).start()
good = client(KEYS["healthy"])
# Endpoints beside the chat, which are told as rows of the README's matrix.
routes = {
    "completions": check_completions,
    "responses": check_responses,
    "embeddings": check_embeddings,
    "images": check_images,
    "speech": check_speech,
    "transcriptions": check_transcriptions,
    "moderations": check_moderations,
    "rerank": check_rerank,
    "videos": check_videos,
    "models": check_models,
}
for step in (check_chat, check_streams, check_tools_and_pictures, *routes.values(), check_rate):
    try:
        step(good)
    except Exception as problem:
        check(step.__name__, False, repr(problem))
if "RESULTS" in os.environ and not failures:
    with open(os.environ["RESULTS"], "a", encoding="utf-8") as results:
        for route in routes:
            row = {"client": "OpenAI SDK (Python)", "model": None, "feature": route, "result": "works"}
            results.write(json.dumps(row) + "\n")
skipped = []
for refusal in REFUSALS:
    if PLAIN and not refusal.get("plain"):
        continue
    if "key" in refusal and refusal["key"] not in KEYS:
        skipped.append(refusal["key"])
        continue
    check_refusal(refusal)
if skipped:
    print(f"no such key yet: {', '.join(skipped)}")
print(f"openai {openai.__version__} for Python: {passed} checks passed, {len(failures)} failed")
sys.exit(1 if failures else 0)
