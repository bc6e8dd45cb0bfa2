"""`client.videos` of OpenAI's official SDK for Python against a demo: made, polled, listed, fetched, deleted, and refused
as its own exceptions.

BASE_URL (up to /v1) and KEYS (JSON, name to key) come from the environment. Ends with 0 when everything held."""

import json
import os
import time
import uuid
import warnings

import openai

warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, of its provider's plans
KEYS = json.loads(os.environ["KEYS"])
PICTURE = bytes.fromhex("89504e470d0a1a0a")


def client(name, retries=2):
    return openai.OpenAI(base_url=os.environ["BASE_URL"], api_key=KEYS[name], max_retries=retries, timeout=30)


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r}, expected {wanted!r}"


def refused(what, kind, status, code, call):
    try:
        call()
    except kind as error:
        expect(what, (error.status_code, error.code), (status, code))
        return error
    raise AssertionError(f"{what} was answered")


healthy = client("healthy")
videos = healthy.videos
# Other runs against the same demo must not be taken for submissions of the same.
run = uuid.uuid4().hex

made = videos.create_and_poll(model="demo-video", prompt=f"a cat {run}", seconds="4", size="1280x720", poll_interval_ms=100)
expect("a video", (made.object, made.status, made.progress), ("video", "completed", 100))
expect("its length and size", (made.seconds, made.size), ("4", "1280x720"))
assert made.completed_at >= made.created_at and made.expires_at > made.created_at
expect("its cost", made.tallygate["charged"], "0.4")
expect("its content", videos.download_content(made.id).read(), f"a video of a cat {run}".encode())
expect("it again", videos.retrieve(made.id).status, "completed")

short = videos.create(model="demo-video", prompt=f"a short one {run}")
expect("what is left open", (short.seconds, short.size), ("4", "720x1280"))
drawn = videos.create(model="demo-video", prompt=f"a drawn one {run}", input_reference=("cat.png", PICTURE, "image/png"))
expect("with a reference", drawn.status, "queued")
again = videos.with_raw_response.create(model="demo-video", prompt=f"a short one {run}")
expect("sent again", (again.parse().id, again.headers["x-tallygate-duplicate"]), (short.id, short.id))

page = videos.list(limit=2)
expect("the newest", [video.id for video in page.data], [drawn.id, short.id])
every = [video.id for video in videos.list(limit=2)]
assert every[2] == made.id and len(set(every)) == len(every), every
expect("the oldest first", made.id in [video.id for video in videos.list(order="asc", limit=100)], True)

failed = videos.create_and_poll(model="demo-video-fail", prompt=f"a cat {run}", poll_interval_ms=100)
expect("a failed one", (failed.status, failed.error.code), ("failed", "moderation_blocked"))
expect("and its cost", failed.tallygate["charged"], "0")

stuck = videos.create(model="demo-video-stuck", prompt=f"a cat {run}")
refused("no content yet", openai.ConflictError, 409, "task_not_finished", lambda: videos.download_content(stuck.id))
expect("cancelled", videos.delete(stuck.id).deleted, True)
refused("and gone", openai.NotFoundError, 404, "not_found", lambda: videos.retrieve(stuck.id))
expect("deleted", videos.delete(made.id).object, "video.deleted")
refused("another's", openai.NotFoundError, 404, "not_found", lambda: client("empty_balance").videos.retrieve(short.id))

ask = {"model": "demo-video", "prompt": f"a cat {run}"}
refused("no money", openai.APIStatusError, 402, "balance_exhausted", lambda: client("empty_balance").videos.create(**ask))
refused("a revoked key", openai.AuthenticationError, 401, "key_revoked", lambda: client("revoked").videos.create(**ask))
refused("a wrong length", openai.BadRequestError, 400, "invalid_parameter", lambda: videos.create(**ask, seconds="much"))
refused("a model that chats", openai.BadRequestError, 400, "endpoint_not_supported_by_model",
        lambda: videos.create(model="gpt-5-mini", prompt="a cat"))
refused("a model that is not", openai.NotFoundError, 404, "model_not_found", lambda: videos.create(model="sora-9", prompt="a"))

# Pictures as tasks have no method of their own in the SDK: its generic calls reach them.
asked = {"model": "demo-image", "prompt": f"a picture {run}", "n": 2}
picture = healthy.post("/images", cast_to=object, body=asked)
while picture["status"] in ("queued", "in_progress"):
    time.sleep(0.1)
    picture = healthy.get(f"/images/{picture['id']}", cast_to=object)
expect("pictures", (picture["status"], picture["tallygate"]["charged"]), ("completed", "0.08"))
place = picture["data"][1]["url"].removeprefix("/v1")
content = healthy.get(place, cast_to=openai.HttpxBinaryResponseContent)
expect("the second of them", content.read(), f"echo: a picture {run}".encode())
refused("pictures without money", openai.APIStatusError, 402, "balance_exhausted",
        lambda: client("empty_balance").post("/images", cast_to=object, body=asked))
# A foreign upstream, as its channel's document says.
foreign = videos.create_and_poll(model="demo-studio-video", prompt=f"a cow {run}", poll_interval_ms=100)
expect("a foreign video", (foreign.status, foreign.tallygate["charged"]), ("completed", "0.4"))
expect("its content", videos.download_content(foreign.id).read(), f"file 1 of a cow {run}".encode())
print("tasks: ok")
