"""`litellm` as a client: python litellm_client.py URL PROVIDER/MODEL..."""

import contextlib
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # asks the internet otherwise
import litellm

ASK = {"messages": [{"role": "user", "content": "100 101 102"}], "max_tokens": 50}
EMBEDS = {"ollama_chat": "ollama", "openai": "openai"}


def tell(url, provider, model):
    base = f"{url}/v1" if provider == "openai" else url
    more = {"api_base": base, "api_key": "unused", "num_retries": 0}
    name = f"{provider}/{model}"
    whole = litellm.completion(name, **ASK, **more)
    stream = litellm.completion(name, **ASK, **more, stream=True)
    pieces = [part.choices[0].delta.content or "" for part in stream]
    told = {
        "texts": [whole.choices[0].message.content, "".join(pieces)],
        "pieces": len(pieces),
    }
    if provider in EMBEDS:
        asked = f"{EMBEDS[provider]}/{model}"
        vectors = litellm.embedding(asked, input=["a", "b"], **more)
        told["vectors"] = len(vectors.data)
    try:
        litellm.completion(f"{provider}/nobody-has-it", **ASK, **more)
    except litellm.NotFoundError as caught:
        told["error"] = f"{type(caught).__name__} {caught.status_code}: {caught}"
    return told


for each in sys.argv[2:]:
    with contextlib.redirect_stdout(sys.stderr):  # it prints hints
        told = tell(sys.argv[1], *each.split("/", 1))
    print(json.dumps(told))
