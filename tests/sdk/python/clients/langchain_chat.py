"""LangChain over each of the three SDKs: the same words for all of them."""

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from . import AFTER_TOOL, CALLED, KEY, PICTURE, ROOT, SAID, SCHEMA, SEEN, Client, expect
from . import of_anthropic, of_google, of_open_ai

TOOL = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
QUESTION = HumanMessage("#tool please")
HELLO = [SystemMessage("Be brief."), HumanMessage("hello")]


def features(ask):
    """What is shown; `ask` makes LangChain's chat of a model."""

    def chat(model):
        said = ask(model).invoke(HELLO)
        expect("text", said.text, SAID)
        used = said.usage_metadata
        assert used["input_tokens"] > 0 and used["output_tokens"] > 0, used

    def stream(model):
        pieces = list(ask(model).stream(HELLO))
        expect("text", "".join(piece.text for piece in pieces), SAID)
        assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) > 0, pieces

    def tools(model):
        able = ask(model).bind_tools([TOOL])
        called = able.invoke([QUESTION])
        expect("call", called.tool_calls[0]["args"], CALLED)
        whole = None
        for piece in able.stream([QUESTION]):
            whole = piece if whole is None else whole + piece
        expect("streamed call", whole.tool_calls[0]["args"], CALLED)
        result = ToolMessage("rain", tool_call_id=called.tool_calls[0]["id"], name="weather")
        expect("after the tool", able.invoke([QUESTION, called, result]).text, AFTER_TOOL)

    def vision(model):
        picture = {"type": "image", "base64": PICTURE, "mime_type": "image/png"}
        seen = ask(model).invoke([HumanMessage([{"type": "text", "text": "see"}, picture])])
        expect("picture", seen.text, SEEN)

    def schema(model):
        answer = ask(model).with_structured_output(SCHEMA, method="json_schema").invoke("hello")
        expect("JSON", answer, {"echo": "hello"})

    return {"chat": chat, "stream": stream, "tools": tools, "vision": vision, "schema": schema}


def open_ai(model):
    return ChatOpenAI(model=model, base_url=f"{ROOT}/v1", api_key=KEY, max_retries=0, stream_usage=True)


def open_ai_responses(model):
    return ChatOpenAI(model=model, base_url=f"{ROOT}/v1", api_key=KEY, max_retries=0, use_responses_api=True)


def anthropic(model):
    return ChatAnthropic(model=model, base_url=ROOT, api_key=KEY, max_retries=0, max_tokens=200)


def google(model):
    return ChatGoogleGenerativeAI(model=model, base_url=ROOT, api_key=KEY, max_retries=1)


def embeddings(_):
    # Its own count of tokens would fetch a table from elsewhere.
    embed = OpenAIEmbeddings(
        model="demo-embedding", base_url=f"{ROOT}/v1", api_key=KEY, check_embedding_ctx_length=False, dimensions=5
    )
    expect("vectors", [len(row) for row in embed.embed_documents(["one", "two"])], [5, 5])


CLIENTS = [
    Client("LangChain, ChatOpenAI (Python)", features(open_ai), of_open_ai),
    Client("LangChain, ChatOpenAI with responses (Python)", features(open_ai_responses), of_open_ai),
    Client("LangChain, ChatAnthropic (Python)", features(anthropic), of_anthropic),
    Client("LangChain, ChatGoogleGenerativeAI (Python)", features(google), of_google),
    Client("LangChain, ChatOpenAI (Python)", {"embeddings": embeddings}, of_open_ai, models=[None]),
]
