"""The `openai` package: python openai_client.py URL MODEL..."""

import json
import sys

import openai

ASK = {"messages": [{"role": "user", "content": "100 101 102"}], "max_tokens": 50}


def tell(client, model):
    whole = client.chat.completions.create(model=model, **ASK)
    stream = client.chat.completions.create(model=model, **ASK, stream=True)
    pieces = [part.choices[0].delta.content or "" for part in stream if part.choices]
    completion = client.completions.create(
        model=model, prompt="100 101 102", max_tokens=50
    )
    error = None
    try:
        client.chat.completions.create(model="nobody-has-it", **ASK)
    except openai.NotFoundError as caught:
        error = f"{type(caught).__name__} {caught.status_code}: {caught.message}"
    return {
        "listed": [each.id for each in client.models.list()],
        "texts": [
            whole.choices[0].message.content,
            "".join(pieces),
            completion.choices[0].text,
        ],
        "pieces": len(pieces),
        "vectors": len(client.embeddings.create(model=model, input=["a", "b"]).data),
        "error": error,
    }


with openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="unused") as client:
    for name in sys.argv[2:]:
        print(json.dumps(tell(client, name)))
