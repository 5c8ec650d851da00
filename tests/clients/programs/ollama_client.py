"""The `ollama` package: python ollama_client.py URL MODEL..."""

import json
import sys

import ollama

PROMPT = [{"role": "user", "content": "100 101 102"}]
OPTIONS = {"num_predict": 50}


def tell(client, model):
    whole = client.chat(model, PROMPT, options=OPTIONS)
    stream = client.chat(model, PROMPT, options=OPTIONS, stream=True)
    pieces = [part.message.content for part in stream]
    generated = client.generate(model, "100 101 102", options=OPTIONS, stream=True)
    error = None
    try:
        client.chat("nobody-has-it", PROMPT)
    except ollama.ResponseError as caught:
        error = f"{type(caught).__name__} {caught.status_code}: {caught.error}"
    shut = None
    try:
        client.pull("x")
    except ollama.ResponseError as caught:
        shut = f"{caught.status_code}: {caught.error}"
    return {
        "shut": shut,
        "family": client.show(model).details.family,
        "listed": [each.model for each in client.list().models],
        "resident": [each.model for each in client.ps().models],
        "texts": [
            whole.message.content,
            "".join(pieces),
            "".join(part.response for part in generated),
        ],
        "pieces": len(pieces),
        "vectors": len(client.embed(model, ["a", "b"]).embeddings),
        "error": error,
    }


with ollama.Client(host=sys.argv[1]) as client:
    for name in sys.argv[2:]:
        print(json.dumps(tell(client, name)))
