"""Clients that people use, each in a file of its own: what it can do with the models of every provider.

A client has a name and its features, each a function of a model that raises where it is not as it should be. Where the
gateway or the provider refuses a feature by name, that is the result; anything else fails the check.
"""

import base64
import json
import os

ROOT = os.environ["BASE_URL"].removesuffix("/v1")
KEYS = json.loads(os.environ["KEYS"])
KEY = KEYS["healthy"]
MODELS = ["gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"]
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE_BYTES = base64.b64decode(PICTURE)
PICTURE_URL = f"data:image/png;base64,{PICTURE}"
SCHEMA = {
    "title": "answer",
    "type": "object",
    "properties": {"echo": {"type": "string"}},
    "required": ["echo"],
    "additionalProperties": False,
}
SAID, SEEN, CALLED = "echo: hello", "echo: see [1 image(s)]", {"echo": "#tool please"}
# What the model says once a tool has answered.
AFTER_TOOL = "echo: #tool please"


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r}, expected {wanted!r}"


class Client:
    """What is shown of one client. `refusal` finds the body of a refusal in an exception."""

    def __init__(self, name, features, refusal, models=MODELS):
        self.name, self.features, self.refusal, self.models = name, features, refusal, models

    def rows(self):
        """One row for each feature and model: it works, or the field that the refusal named, else its code."""
        for model in self.models:
            for feature, check in self.features.items():
                yield {"client": self.name, "model": model, "feature": feature, "result": self.result(check, model)}

    def result(self, check, model):
        try:
            check(model)
            return "works"
        except Exception as error:
            code, param = self.refusal(error)
            if code in ("invalid_parameter", "upstream_rejected"):
                return param or code
            raise AssertionError(f"{self.name}, {model}, {check.__name__}: {error!r}") from error


def of_open_ai(error):
    """Code and field of a refusal, as OpenAI's SDK gives them."""
    return getattr(error, "code", None), getattr(error, "param", None)


def of_anthropic(error):
    body = getattr(error, "body", None) or {}
    told = body.get("error", {}) if isinstance(body, dict) else {}
    return told.get("code"), told.get("param")


def of_google(error):
    """The same of Google's, which LangChain wraps."""
    error = error if hasattr(error, "details") else error.__cause__
    body = getattr(error, "details", None) or {}
    details = body.get("error", {}).get("details") or [{}]
    return details[0].get("reason"), details[0].get("param")
